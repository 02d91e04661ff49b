"""What a loss is given: one batch, and what all losses of the batch compute only once."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.all_gather import gather_rows


@dataclass(frozen=True)
class LossInputs:
    """One batch: raw ``embeddings`` [B, D], ``labels`` int64 [B], ``teacher`` [B, Dt] or None.

    ``centres`` are the raw class centres [K, D], or [K, S, D] where each identity has S
    sub-centres; ``identity_counts`` int64 [K] are the images of each identity in the training set.
    ``teacher_centres`` [K, Dt] are the teacher's class centres, of unit length. A label is a row of
    these three, which need not hold all identities.
    """

    embeddings: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    centres: Tensor | None = None
    identity_counts: Tensor | None = None
    teacher_centres: Tensor | None = None

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

    def cross_entropy(self, true: Tensor, others: Tensor) -> Tensor:
        """[B], of logits ``true`` [B] and ``others`` [B, K], which do not count at the labels."""
        logits = others.index_put(self._target_places, true)
        return F.cross_entropy(logits, self.labels, reduction="none")

    def of_all_ranks(self, values: Tensor) -> Tensor:
        """``values`` [B, ...] of this rank's images as those of all ranks', with gradient."""
        return gather_rows(values)

    @property
    def _target_places(self) -> tuple[Tensor, Tensor]:
        return torch.arange(len(self.labels), device=self.labels.device), self.labels


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32; float64, in which gradients are checked, as it is."""
    return values if values.dtype == torch.float64 else values.float()
