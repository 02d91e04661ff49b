"""The base class of losses, their input batch, and the registry.

Each loss is a file of this package with a registered subclass of ``Loss``::

    class LengthSettings(LossSettings):
        power: PositiveFloat = 2.0


    @register("length")
    class Length(Loss):
        settings: LengthSettings

        def formula(self, inputs: LossInputs) -> Tensor:
            return inputs.embeddings.norm(dim=1).pow(self.settings.power).mean()

The settings of the built-in losses are in ``distill.losses.settings``, which does not import torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curation.errors import UserError
from curation.registry import check_unused
from distill.losses.arguments import check_counts, check_labels, check_rows, check_size
from distill.losses.collectives import all_gather
from distill.losses.settings import ComparisonSettings, HeadSettings, LossSettings, enter_settings
from distill.losses.settings_parsing import checked_settings


@dataclass(frozen=True)
class LossInputs:
    """One batch: raw ``embeddings`` [B, D], ``labels`` int64 [B], ``teacher`` [B, Dt] or None.

    ``centres`` are the raw class weights [K, D], or [K, S, D] with S sub-centres per identity;
    ``identity_counts`` int64 [K] are the images per identity in the training set;
    ``teacher_centres`` [K, Dt] are the teacher's class centres, of unit length. Labels index these
    three, which need not cover all identities.

    ``label_weights`` [B] weights each image in losses that use its label: 0 for a mix of two
    images or an image without a label (its label is then a placeholder). The others are scaled up
    so that the weights of all ranks' images average 1. None means that every weight is 1.
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
        """Embeddings of length 1, [B, D], in float32 or wider for any precision of the network."""
        return F.normalize(at_least_float32(self.embeddings))

    @cached_property
    def unit_teacher(self) -> Tensor:
        """The teacher's embeddings [B, Dt], normalised again: the cache rounds to float16."""
        assert self.teacher is not None, "this loss is registered without needs_teacher"
        return F.normalize(at_least_float32(self.teacher))

    @cached_property
    def unit_centres(self) -> Tensor:
        """Class weights of length 1, in the shape of ``centres``."""
        assert self.centres is not None, "this loss is registered without needs_centres"
        return F.normalize(at_least_float32(self.centres), dim=-1)

    @cached_property
    def cosines(self) -> Tensor:
        """Cosines of embeddings and class weights, [B, K]; of sub-centres, the nearest one counts.

        Source of the maximum: Deng et al., Sub-center ArcFace, 2020.
        """
        with torch.autocast(self.embeddings.device.type, enabled=False):
            cosines = F.linear(self.unit_embeddings, self.unit_centres.flatten(0, -2))
        if self.unit_centres.ndim == 2:
            return cosines
        return cosines.unflatten(1, self.unit_centres.shape[:2]).amax(dim=2)

    @cached_property
    def target_logits(self) -> Tensor:
        """The cosines [B] to the class weights of the images' own identities, without margin."""
        return self.cosines[self._target_places]

    def cross_entropy(self, target: Tensor, non_target: Tensor) -> Tensor:
        """The losses [B] from logits ``target`` [B] and ``non_target`` [B, K], where the values at
        the labels are ignored."""
        logits = non_target.index_put(self._target_places, target)
        return F.cross_entropy(logits, self.labels, reduction="none")

    def mean_over_labelled(self, values: Tensor) -> Tensor:
        """The mean of ``values`` [B] over the images whose label counts."""
        return (values if self.label_weights is None else values * self.label_weights).mean()

    def all_labelled(self, values: Tensor) -> Tensor:
        """``values`` [B, ...] gathered from all ranks, images whose label counts; with gradient."""
        everywhere = self.all_gather(values)
        return everywhere if self.label_weights is None else everywhere[self.all_are_labelled]

    @cached_property
    def all_are_labelled(self) -> Tensor:
        """bool [B of all ranks]: whether the label of each image counts."""
        assert self.label_weights is not None, "all labels count"
        return self.all_gather(self.label_weights) > 0

    def all_gather(self, values: Tensor) -> Tensor:
        """``values`` [B, ...] gathered from all ranks, with gradient."""
        return all_gather(values)

    @property
    def _target_places(self) -> tuple[Tensor, Tensor]:
        return torch.arange(len(self.labels), device=self.labels.device), self.labels


def at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32; float64 stays, as gradient checks need it."""
    return values if values.dtype == torch.float64 else values.float()


class Loss(nn.Module):
    """A formula over batches with validated settings, usable in any training loop::

        loss = ArcFace(identities=10_000, embedding=512, margin=0.4)
        loss(embeddings, labels).backward()

    On its own, a loss owns the class weights of its formula as the parameter ``class_weights``
    [identities, embedding]: pass ``loss.parameters()`` to the optimiser too. In a training stage
    (``standalone=False``) the losses share the class weights and receive them with every batch.

    A subclass annotates ``settings`` with its settings class and defines ``formula``.

    Args:
        settings: a settings object; or pass the settings as keyword arguments.
        identities: the number of identities; required if the loss stores anything per identity.
        embedding: the width of the embeddings; required with ``identities``.
        teacher_embedding: the width of the teacher's embeddings, for ``project``.
        teacher_centres: the teacher's mean embedding of each identity, [identities, Dt].
        identity_counts: the images per identity, int64 [identities], for ``class_balance``.

    Raises ``UserError`` for an argument that is unknown, missing or out of range.
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
        """The settings class of this loss."""
        found: type[LossSettings] = get_type_hints(cls)["settings"]
        return found

    def formula(self, inputs: LossInputs) -> Tensor:
        """The loss of a batch, a float32 scalar; autocast is off."""
        raise NotImplementedError

    def forward(
        self,
        embeddings: Tensor | LossInputs,
        labels: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar, times ``settings.weight``.

        ``embeddings`` [B, D] are raw, ``labels`` [B] whole numbers from 0, ``teacher`` [B, Dt] the
        teacher's embeddings of the same images. Raises ``UserError`` if they do not match. A stage
        passes ``LossInputs`` instead and gets the loss without the weight.
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
        """(identities, width of the embeddings), the shape of what the loss stores per identity."""
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
        """Create the tensors that a stage would otherwise share between its losses."""
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
        """Raise ``UserError`` if an argument is missing or has no use."""
        if (value is not None) != wanted:
            wrong = "is missing" if wanted else "has no effect with these settings"
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
    """Small random weights [identities, embedding], with ``each`` in the middle if above 1."""
    shape = (identities, embedding) if each == 1 else (identities, each, embedding)
    weights = nn.Parameter(torch.empty(shape))
    nn.init.normal_(weights, std=0.01)
    return weights


@dataclass(frozen=True)
class LossEntry:
    """A registered loss and its settings class."""

    loss: type[Loss]
    settings: type[LossSettings]

    def build(self, settings: LossSettings, embedding: int, identities: int) -> Loss:
        """The loss as part of a stage; ``embedding`` is the width of its input."""
        return self.loss(settings, embedding=embedding, identities=identities, standalone=False)


LOSSES: dict[str, LossEntry] = {}
AnyLoss = TypeVar("AnyLoss", bound=type[Loss])


def register(name: str) -> Callable[[AnyLoss], AnyLoss]:
    """Register a loss, and the settings of one that is not built in, under its name in specs."""

    def enter(loss: AnyLoss) -> AnyLoss:
        before = LOSSES.get(name)
        check_unused("loss", name, before and before.loss, loss)
        LOSSES[name] = LossEntry(loss, enter_settings(name, loss.settings_type()))
        return loss

    return enter
