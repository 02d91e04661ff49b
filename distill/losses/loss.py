"""What a loss is: the batch that it is given, its base class, and the registry.

A loss is a file of this package: a subclass of ``Loss`` with its formula, entered under a name::

    class LengthSettings(LossSettings):
        power: PositiveFloat = 2.0


    @register("length")
    class Length(Loss):
        settings: LengthSettings

        def formula(self, inputs: LossInputs) -> Tensor:
            return inputs.embeddings.norm(dim=1).pow(self.settings.power).mean()

The settings of our own losses are in ``distill.losses.settings``, which needs no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curation.errors import UserError
from curation.registry import check_unused, import_files
from distill.losses.arguments import check_counts, check_labels, check_rows, check_size
from distill.losses.collectives import all_gather
from distill.losses.settings import (
    ComparisonSettings,
    HeadSettings,
    LossSettings,
    checked_settings,
    enter_settings,
)


@dataclass(frozen=True)
class LossInputs:
    """One batch: raw ``embeddings`` [B, D], ``labels`` int64 [B], ``teacher`` [B, Dt] or None.

    ``centres`` are the raw class centres [K, D], or [K, S, D] where each identity has S
    sub-centres; ``identity_counts`` int64 [K] are the images of each identity in the training set.
    ``teacher_centres`` [K, Dt] are the teacher's class centres, of unit length. A label is a row of
    these three, which need not hold all identities.

    ``label_weights`` [B] say how much each image counts where its label does: 0 where two pictures
    are mixed or there is no label (another of the batch stands for it), and the others as much more
    as there are fewer of them in the batch of all ranks.
    None: all count 1.
    """

    embeddings: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    centres: Tensor | None = None
    identity_counts: Tensor | None = None
    teacher_centres: Tensor | None = None
    label_weights: Tensor | None = None

    @cached_property
    def unit_embeddings(self) -> Tensor:
        """Embeddings of length 1, [B, D]; float32 whatever the network's precision."""
        return F.normalize(at_least_float32(self.embeddings))

    @cached_property
    def unit_teacher(self) -> Tensor:
        """The teacher's embeddings, [B, Dt]; the cache's float16 is of length 1 only nearly."""
        assert self.teacher is not None, "this loss is registered without needs_teacher"
        return F.normalize(at_least_float32(self.teacher))

    @cached_property
    def unit_centres(self) -> Tensor:
        """Class centres of length 1, in the shape of ``centres``."""
        assert self.centres is not None, "this loss is registered without needs_centres"
        return F.normalize(at_least_float32(self.centres), dim=-1)

    @cached_property
    def cosines(self) -> Tensor:
        """Embeddings times centres, [B, K]: with sub-centres, that of the nearest of each identity.

        Source of the maximum: Deng et al., Sub-center ArcFace, 2020.
        """
        with torch.autocast(self.embeddings.device.type, enabled=False):
            cosines = F.linear(self.unit_embeddings, self.unit_centres.flatten(0, -2))
        if self.unit_centres.ndim == 2:
            return cosines
        return cosines.unflatten(1, self.unit_centres.shape[:2]).amax(dim=2)

    @cached_property
    def target_logits(self) -> Tensor:
        """[B]: the cosines to the centres of the images' own identities, without margin."""
        return self.cosines[self._target_places]

    def cross_entropy(self, target: Tensor, non_target: Tensor) -> Tensor:
        """[B], of logits ``target`` [B] and ``non_target`` [B, K]; the latter do not count at the
        labels."""
        logits = non_target.index_put(self._target_places, target)
        return F.cross_entropy(logits, self.labels, reduction="none")

    def mean_over_labelled(self, values: Tensor) -> Tensor:
        """The mean of ``values`` [B] over the images whose label counts."""
        return (values if self.label_weights is None else values * self.label_weights).mean()

    def all_labelled(self, values: Tensor) -> Tensor:
        """``values`` [B, ...] of all ranks' images whose label counts; with gradient."""
        everywhere = self.all_gather(values)
        return everywhere if self.label_weights is None else everywhere[self.all_are_labelled]

    @cached_property
    def all_are_labelled(self) -> Tensor:
        """bool [B of all ranks]: whose label counts."""
        assert self.label_weights is not None, "all labels count"
        return self.all_gather(self.label_weights) > 0

    def all_gather(self, values: Tensor) -> Tensor:
        """``values`` [B, ...] of this rank's images as those of all ranks', with gradient."""
        return all_gather(values)

    @property
    def _target_places(self) -> tuple[Tensor, Tensor]:
        return torch.arange(len(self.labels), device=self.labels.device), self.labels


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32; float64, in which gradients are checked, as it is."""
    return values if values.dtype == torch.float64 else values.float()


class Loss(nn.Module):
    """A formula over batches, with settings that are checked; usable in any training loop::

        loss = ArcFace(identities=10_000, embedding=512, margin=0.4)
        loss(embeddings, labels).backward()

    Alone it owns the class weights that its formula needs, as a parameter ``class_weights``
    [identities, embedding]: give the optimiser ``loss.parameters()`` too. In a stage of a training
    (``standalone=False``) the losses share them, and are given them with every batch.

    A subclass says its settings by the annotation of ``settings`` and gives ``formula``.

    Args:
        settings: an object of the settings; or give them one by one, by name.
        identities, embedding: how many identities there are, and the width of the embeddings;
            needed where the loss keeps anything of each identity.
        teacher_embedding: the width of the teacher's embeddings, where ``project`` maps to it.
        teacher_centres: the teacher's mean embedding of each identity, [identities, Dt].
        identity_counts: the images of each identity, int64 [identities], for ``class_balance``.

    Raises ``UserError`` for an argument that the loss does not take, that it lacks, or that is out
    of range.
    """

    settings: LossSettings
    identity_counts: Tensor | None
    teacher_centres: Tensor | None

    def __init__(
        self,
        settings: LossSettings | None = None,
        *,
        identities: int | None = None,
        embedding: int | None = None,
        teacher_embedding: int | None = None,
        teacher_centres: Tensor | None = None,
        identity_counts: Tensor | None = None,
        standalone: bool = True,
        **given: Any,
    ) -> None:
        super().__init__()
        self.settings = checked_settings(self.settings_type(), settings, given, self._name)
        self.identities, self.embedding = identities, embedding
        self.class_weights: nn.Parameter | None = None
        self.projection: nn.Linear | None = None
        self.register_buffer("identity_counts", None, persistent=False)
        self.register_buffer("teacher_centres", None, persistent=False)
        if standalone:
            self._own(teacher_embedding, teacher_centres, identity_counts)

    @classmethod
    def settings_type(cls) -> type[LossSettings]:
        """The class of its settings."""
        found: type[LossSettings] = get_type_hints(cls)["settings"]
        return found

    def formula(self, inputs: LossInputs) -> Tensor:
        """The loss of a batch, a scalar, in float32; autocast is off."""
        raise NotImplementedError

    def forward(
        self,
        embeddings: Tensor | LossInputs,
        labels: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar, times ``settings.weight``.

        ``embeddings`` [B, D] are raw, ``labels`` [B] whole numbers from 0, ``teacher`` [B, Dt] the
        teacher's embeddings of the same images. Raises ``UserError`` where they do not fit. Of
        ``LossInputs``, as a stage gives them, it is the loss without the weight.
        """
        if isinstance(embeddings, LossInputs):
            return self._without_autocast(embeddings)
        inputs = self._inputs(embeddings, labels, teacher)
        return self.settings.weight * self._without_autocast(inputs)

    def _without_autocast(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            return self.formula(inputs)

    @property
    def shape(self) -> tuple[int, int]:
        """(identities, width of the embeddings), for what the loss keeps of each identity."""
        return self._size("identities"), self._size("embedding")

    def _size(self, argument: str, least: int = 1) -> int:
        return check_size(f"{self._name}: {argument}", getattr(self, argument), least)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _own(
        self,
        teacher_embedding: int | None,
        teacher_centres: Tensor | None,
        identity_counts: Tensor | None,
    ) -> None:
        """What a stage has for all its losses, for this one alone."""
        settings = self.settings
        balanced = isinstance(settings, HeadSettings) and settings.class_balance is not None
        projects = isinstance(settings, ComparisonSettings) and settings.project
        self._expect("teacher_centres", teacher_centres, settings.needs_teacher_centres)
        self._expect("identity_counts", identity_counts, balanced)
        if teacher_embedding is not None:
            self._expect("teacher_embedding", teacher_embedding, projects)
        if teacher_centres is not None:
            width = teacher_embedding if projects else self.embedding
            check_rows(f"{self._name}: teacher_centres", teacher_centres, self.identities, width)
            self.teacher_centres = F.normalize(teacher_centres.detach().float())
            self.identities = len(teacher_centres)
            teacher_embedding = teacher_centres.shape[1]
            if not projects:
                self.embedding = teacher_embedding
        if self.identities is not None:
            self._size("identities", settings.needs.identities)
        if self.embedding is not None:
            self._size("embedding")
        if projects:
            width = self._size("embedding")
            self.embedding = teacher_embedding or width
            self.projection = nn.Linear(width, self._size("embedding"), bias=False)
        if settings.needs_centres:
            self.class_weights = new_class_weights(*self.shape, settings.centres_per_identity)
        if identity_counts is not None:
            what = f"{self._name}: identity_counts"
            self.identity_counts = check_counts(what, identity_counts, self.shape[0])

    def _expect(self, argument: str, value: Any, wanted: bool) -> None:
        """Raise ``UserError`` where an argument is missing, or has no use."""
        if (value is not None) != wanted:
            wrong = "is missing" if wanted else "has no use with these settings"
            raise UserError(f"{self._name}: {argument} {wrong}")

    def _inputs(self, embeddings: Any, labels: Any, teacher: Any) -> LossInputs:
        """The arguments of ``forward``, checked."""
        name, settings = self._name, self.settings
        width = self.embedding if self.projection is None else self.projection.in_features
        embeddings = check_rows(f"{name}: embeddings", embeddings, None, width)
        rows = len(embeddings)
        if self.projection is not None:
            with torch.autocast(embeddings.device.type, enabled=False):
                embeddings = self.projection(at_least_float32(embeddings))
        if labels is None and not settings.needs_labels:
            labels = torch.zeros(rows, dtype=torch.long, device=embeddings.device)
        if settings.needs_teacher:
            teacher = check_rows(f"{name}: teacher", teacher, rows)
        if isinstance(settings, ComparisonSettings) and teacher.shape[1] != embeddings.shape[1]:
            raise UserError(
                f"{name}: teacher {list(teacher.shape)} has another shape than the embeddings, "
                f"{list(embeddings.shape)}; give project=True, embedding=... and "
                f"teacher_embedding={teacher.shape[1]}"
            )
        return LossInputs(
            embeddings,
            check_labels(f"{name}: labels", labels, rows, self.identities),
            teacher,
            self.class_weights,
            self.identity_counts,
            None if self.teacher_centres is None else at_least_float32(self.teacher_centres),
        )


def new_class_weights(identities: int, embedding: int, each: int = 1) -> nn.Parameter:
    """Small and random: [identities, embedding], or [identities, each, embedding] from 2."""
    shape = (identities, embedding) if each == 1 else (identities, each, embedding)
    weights = nn.Parameter(torch.empty(shape))
    nn.init.normal_(weights, std=0.01)
    return weights


@dataclass(frozen=True)
class LossEntry:
    """A registered loss, and the class of its settings."""

    loss: type[Loss]
    settings: type[LossSettings]

    def build(self, settings: LossSettings, embedding: int, identities: int) -> Loss:
        """The loss as a part of a stage; ``embedding`` is the width of what it is given."""
        return self.loss(settings, embedding=embedding, identities=identities, standalone=False)


LOSSES: dict[str, LossEntry] = {}
AnyLoss = TypeVar("AnyLoss", bound=type[Loss])


def register(name: str) -> Callable[[AnyLoss], AnyLoss]:
    """Enter a loss, and its settings where those are not ours, under the name that specs use."""

    def enter(loss: AnyLoss) -> AnyLoss:
        before = LOSSES.get(name)
        check_unused("loss", name, before and before.loss, loss)
        LOSSES[name] = LossEntry(loss, enter_settings(name, loss.settings_type()))
        return loss

    return enter


def import_all() -> None:
    """Import every file of this package, so that all losses are in ``LOSSES``."""
    import_files("distill.losses")
