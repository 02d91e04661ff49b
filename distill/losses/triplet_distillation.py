"""Triplet distillation: Feng et al., Triplet Distillation for Deep Face Recognition, 2020."""

import torch
from torch import Tensor, nn

from distill.losses.all_gather import gather_rows, own_rows, sum_over_ranks
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import TripletDistillationSettings
from distill.losses.teacher_margins import teacher_margins
from distill.mining.triplets import positive_pairs, same_identity, squared_distances
from distill.ranks import world_size


@register("triplet_distillation")
class TripletDistillation(nn.Module):
    """Triplet loss whose margin grows with how far apart the teacher sees the two identities.

    Distances are squared, of unit vectors; teacher and student may differ in width. Over every
    anchor, positive and negative of the batch of all ranks, averaged over those that violate their
    margin (the paper averages over triplets mined beforehand). Wants batches with several images of
    an identity (``sampler`` pk); one without triplets gives 0, with a gradient of 0.
    """

    def __init__(
        self, settings: TripletDistillationSettings, embedding: int, identities: int
    ) -> None:
        super().__init__()
        self.smallest, self.largest = settings.smallest_margin, settings.largest_margin

    def forward(self, inputs: LossInputs) -> Tensor:
        own = own_rows(len(inputs.labels))
        labels = gather_rows(inputs.labels)
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            ours = _excess(gather_rows(inputs.unit_embeddings), labels, own)
            seen = _excess(gather_rows(inputs.unit_teacher), labels, own)
            margins = teacher_margins(seen, self.smallest, self.largest)
            violations = (margins - ours).clamp_min(0)
            violating = sum_over_ranks((violations > 0).sum())
            # This rank's part times the ranks, so that their mean is the loss of all triplets.
            return violations.sum() * world_size() / violating.clamp_min(1)


def _excess(unit: Tensor, labels: Tensor, own: slice) -> Tensor:
    """``d(anchor, negative) - d(anchor, positive)`` [T] of all triplets with an anchor in ``own``.

    In one order, whatever ``unit`` [N, D] are.
    """
    anchors, positives = positive_pairs(labels, own)
    distances = squared_distances(unit[own], unit)
    excess = distances[anchors] - distances[anchors, positives, None]
    return excess[~same_identity(labels, own)[anchors]]
