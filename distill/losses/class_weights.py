"""Sampled or sharded class weights: a step or a rank holds those of some identities only.

Sharding splits the softmax over ranks (An et al., Partial FC, 2021). Each rank sees the images of
all ranks but only the columns of its own identities. From the other ranks the softmax needs a
target logit, a maximum and a sum of exponentials per image.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distill.losses.collectives import all_gather, all_reduce_sum, own_rows
from distill.losses.loss import LossInputs
from distill.ranks import world_size


@dataclass(frozen=True)
class SampledClassWeights:
    """Row i of the class weights belongs to ``identities[i]``, int64, in ascending order.

    They include every identity of the batch; if ``sharded``, those of all ranks together do.
    """

    identities: Tensor
    sharded: bool

    def columns(self, labels: Tensor) -> Tensor:
        """The row of each label in the class weights; -1 for identities without a row here."""
        places = torch.searchsorted(self.identities, labels)
        places = places.clamp_max(len(self.identities) - 1)
        return places.where(self.identities[places] == labels, -1)

    def select(self, inputs: LossInputs) -> LossInputs:
        """``inputs`` with labels, counts and teacher centres indexed like the class weights.

        If sharded, the result is the batch of all ranks, and every rank must make this call.
        """
        if self.sharded:
            labels = all_gather(inputs.labels)
            return ShardedInputs.gather(inputs, self.columns(labels), labels)
        counts, teacher = inputs.identity_counts, inputs.teacher_centres
        return replace(
            inputs,
            labels=self.columns(inputs.labels),
            identity_counts=None if counts is None else counts[self.identities],
            teacher_centres=None if teacher is None else teacher[self.identities],
        )


@dataclass(frozen=True)
class ShardedInputs(LossInputs):
    """The global batch: ``embeddings`` [N, D] and ``labels`` [N] of all ranks' images.

    ``centres`` [k, D] or [k, S, D] and the columns of ``cosines`` are those of this rank only.
    ``columns`` int64 [N] gives the column of each image's own identity, -1 if another rank holds
    it. Labels index ``identity_counts``, which covers all identities.

    Every rank computes the loss of the global batch. The gradient of the class weights is exact.
    The gradient of the embeddings is multiplied by the number of ranks, because the gradients of
    the network are averaged over ranks afterwards.
    """

    columns: Tensor | None = None

    @classmethod
    def gather(cls, inputs: LossInputs, columns: Tensor, labels: Tensor) -> "ShardedInputs":
        """The global batch from this rank's ``inputs`` and the labels and columns of all ranks."""
        return cls(
            embeddings=all_gather_shared(inputs.embeddings),
            labels=labels,
            centres=inputs.centres,
            identity_counts=inputs.identity_counts,
            label_weights=None
            if inputs.label_weights is None
            else all_gather(inputs.label_weights),
            columns=columns,
        )

    @cached_property
    def target_logits(self) -> Tensor:
        """[N] on every rank, each from the rank that holds the class weight of its label."""
        assert self.columns is not None
        found = self.cosines.gather(1, self.columns.clamp_min(0)[:, None])[:, 0]
        return _AllReduceSum.apply(found.where(self.columns >= 0, 0.0))

    def cross_entropy(self, target: Tensor, non_target: Tensor) -> Tensor:
        return _ShardedCrossEntropy.apply(target, non_target, self.columns)

    def all_gather(self, values: Tensor) -> Tensor:
        return values


def all_gather_shared(rows: Tensor) -> Tensor:
    """[ranks * B, ...]: like ``all_gather``, for a loss that is computed in parts on all ranks.

    The backward pass sums the parts; see ``ShardedInputs`` for the factor.
    """
    return _AllGatherShared.apply(rows) if world_size() > 1 else rows


def _all_reduce_max(values: Tensor) -> Tensor:
    """The elementwise maximum over ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


class _AllGatherShared(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.own = own_rows(len(rows))
        return all_gather(rows)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return world_size() * all_reduce_sum(gradients[0])[context.own]


class _AllReduceSum(torch.autograd.Function):
    """Every rank uses the sum, so its gradient is the sum of the gradients of all ranks."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return all_reduce_sum(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0])


class _ShardedCrossEntropy(torch.autograd.Function):
    """``log(sum of exponentials) - target`` [N] for logits whose columns are spread over ranks.

    ``target`` [N] is equal on every rank and counts once, on the rank that holds its column.
    """

    @staticmethod
    def forward(context: Any, target: Tensor, non_target: Tensor, columns: Tensor) -> Tensor:
        rows = (columns >= 0).nonzero()[:, 0]
        place = rows, columns[rows]
        shares = non_target.index_put(place, target[rows])
        highest = _all_reduce_max(shares.amax(dim=1))
        shares.sub_(highest[:, None]).exp_()
        total = all_reduce_sum(shares.sum(dim=1))
        context.save_for_backward(shares.div_(total[:, None]), *place)
        return total.log() + highest - target

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        shares, rows, columns = context.saved_tensors
        of_non_target = shares * gradient[:, None]
        of_target = torch.zeros_like(gradient)
        of_target[rows] = of_non_target[rows, columns] - gradient[rows]
        of_non_target[rows, columns] = 0.0
        return of_target, of_non_target, None
