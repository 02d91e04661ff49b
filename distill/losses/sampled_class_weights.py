"""The identities of sampled or sharded class weights: a step or a rank has some rows of all."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.losses.all_gather import gather_rows
from distill.losses.inputs import LossInputs
from distill.losses.sharded import ShardedInputs


@dataclass(frozen=True)
class SampledClassWeights:
    """Row i of the class weights is that of ``identities[i]``, int64, in ascending order.

    The identities of the batch are among them; where ``sharded``, among those of all ranks.
    """

    identities: Tensor
    sharded: bool

    def columns(self, labels: Tensor) -> Tensor:
        """The rows of ``labels`` in the class weights; -1 for identities without a row here."""
        places = torch.searchsorted(self.identities, labels)
        places = places.clamp_max(len(self.identities) - 1)
        return places.where(self.identities[places] == labels, -1)

    def select(self, inputs: LossInputs) -> LossInputs:
        """``inputs`` with labels, counts and teacher centres indexed as the class weights are.

        Where sharded it is the batch of all ranks; every rank has to call it.
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
