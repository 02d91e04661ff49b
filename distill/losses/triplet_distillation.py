"""Triplet distillation: Feng et al., Triplet Distillation for Deep Face Recognition, 2020."""

import torch
from torch import Tensor

from distill.losses.collectives import all_gather, all_reduce_sum
from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import TripletDistillationSettings
from distill.losses.triplet import own_labelled
from distill.mining.triplets import positive_pairs, same_identity, squared_distances
from distill.ranks import world_size

_SMALLEST_MAXIMUM = 1e-12


@register("triplet_distillation")
class TripletDistillation(Loss):
    """Triplet loss whose margin grows with the distance between two identities in the teacher::

        loss = mean over violating triplets (a, p, n) of  max(0, |a - p|^2 - |a - n|^2 + m)
        m = smallest + (largest - smallest) * q / (highest q of the batch)

    of the student's embeddings, with q = max(0, |a - n|^2 - |a - p|^2) of the teacher's. All have
    length 1; teacher and student may differ in width. Every triplet in the batch of all ranks is
    considered, and the mean is over those that violate their margin (in the paper, over triplets
    mined beforehand). The batch should contain several images per identity; without triplets the
    loss and its gradient are 0.

    Args:
        smallest_margin, largest_margin: in squared distance; default 0.2 and 0.5, as in the
            re-implementation by the authors of MarginDistillation.
        weight: multiplies the loss.

    Example:
        >>> loss = TripletDistillation()
        >>> embeddings, teacher = torch.randn(8, 32, requires_grad=True), torch.randn(8, 64)
        >>> loss(embeddings, torch.arange(8) // 4, teacher).backward()
    """

    settings: TripletDistillationSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        own, labels = own_labelled(inputs), inputs.all_labelled(inputs.labels)
        ours = _excess(inputs.all_labelled(inputs.unit_embeddings), labels, own)
        seen = _excess(inputs.all_labelled(inputs.unit_teacher), labels, own)
        margins = teacher_margins(seen, self.settings.smallest_margin, self.settings.largest_margin)
        violations = (margins - ours).clamp_min(0)
        violating = all_reduce_sum((violations > 0).sum())
        # This rank's share times the number of ranks: their mean is the loss of all triplets.
        return violations.sum() * world_size() / violating.clamp_min(1)


def teacher_margins(certainty: Tensor, smallest: float, largest: float) -> Tensor:
    """Margins [T], linear in ``certainty`` [T]: ``smallest`` up to 0, ``largest`` at its maximum.

    The maximum is over all ranks; ``certainty`` may be empty. The paper's ``F(d)``.
    """
    certainty = certainty.clamp_min(0)
    own_highest = torch.cat([certainty, certainty.new_zeros(1)]).amax()
    highest = all_gather(own_highest[None]).amax().clamp_min(_SMALLEST_MAXIMUM)
    return smallest + (largest - smallest) * certainty / highest


def _excess(unit: Tensor, labels: Tensor, own: slice) -> Tensor:
    """``d(anchor, negative) - d(anchor, positive)`` [T] of all triplets with an anchor in ``own``.

    The order of the triplets depends on ``labels`` only, not on ``unit`` [N, D].
    """
    anchors, positives = positive_pairs(labels, own)
    distances = squared_distances(unit[own], unit)
    excess = distances[anchors] - distances[anchors, positives, None]
    return excess[~same_identity(labels, own)[anchors]]
