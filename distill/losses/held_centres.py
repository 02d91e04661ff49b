"""Which identities the class centres belong to, where a rank or a step does not take them all."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.losses.inputs import LossInputs
from distill.losses.over_ranks import gather_rows
from distill.losses.sharded import ShardedInputs


@dataclass(frozen=True)
class HeldCentres:
    """Row i of the centres at hand is that of ``identities[i]``, int64, rising.

    Those of the batch are among them; where ``sharded``, among those of all ranks together.
    """

    identities: Tensor
    sharded: bool

    def columns(self, labels: Tensor) -> Tensor:
        """The rows of the centres of ``labels``; -1 for those that are not at hand."""
        places = torch.searchsorted(self.identities, labels)
        places = places.clamp_max(len(self.identities) - 1)
        return places.where(self.identities[places] == labels, -1)

    def select(self, inputs: LossInputs) -> LossInputs:
        """``inputs``, which have these centres but all else of all identities, in their numbers.

        Where sharded it is the batch of all ranks; every rank has to ask.
        """
        if self.sharded:
            labels = gather_rows(inputs.labels)
            return ShardedInputs.gather(inputs, self.columns(labels), labels)
        counts, teacher = inputs.identity_counts, inputs.teacher_centres
        return replace(
            inputs,
            labels=self.columns(inputs.labels),
            identity_counts=None if counts is None else counts[self.identities],
            teacher_centres=None if teacher is None else teacher[self.identities],
        )
