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
    """Triplet loss whose margin grows with how far apart the teacher sees the two identities::

        loss = mean over violating triplets (a, p, n) of  max(0, |a - p|^2 - |a - n|^2 + m)
        m = smallest + (largest - smallest) * q / (highest q of the batch)

    of the student's embeddings, for the teacher's q = |a - n|^2 - |a - p|^2, at least 0. All are of
    length 1; teacher and student may differ in width. Over every anchor, positive and negative of
    the batch of all ranks, averaged over those that violate their margin (the paper averages over
    triplets mined beforehand). Wants batches with several images of an identity; one without
    triplets gives 0, with a gradient of 0.

    Args:
        smallest_margin, largest_margin: in squared distance, 0.2 and 0.5 unless given, as in the
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
        # This rank's part times the ranks, so that their mean is the loss of all triplets.
        return violations.sum() * world_size() / violating.clamp_min(1)


def teacher_margins(certainty: Tensor, smallest: float, largest: float) -> Tensor:
    """Margins [T]: the smallest at 0 and below, the largest at the batch's highest, on a line.

    ``certainty`` [T] may be empty; the highest is that of all ranks. The paper's ``F(d)``.
    """
    certainty = certainty.clamp_min(0)
    own_highest = torch.cat([certainty, certainty.new_zeros(1)]).amax()
    highest = all_gather(own_highest[None]).amax().clamp_min(_SMALLEST_MAXIMUM)
    return smallest + (largest - smallest) * certainty / highest


def _excess(unit: Tensor, labels: Tensor, own: slice) -> Tensor:
    """``d(anchor, negative) - d(anchor, positive)`` [T] of all triplets with an anchor in ``own``.

    In one order, whatever ``unit`` [N, D] are.
    """
    anchors, positives = positive_pairs(labels, own)
    distances = squared_distances(unit[own], unit)
    excess = distances[anchors] - distances[anchors, positives, None]
    return excess[~same_identity(labels, own)[anchors]]
