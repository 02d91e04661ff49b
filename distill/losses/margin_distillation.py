"""MarginDistillation: Svitov & Alyamkin, 2020. The teacher's class centres, and margins from it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.arcface import add_angular_margin
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import MarginDistillationSettings
from distill.losses.teacher_margins import teacher_margins


@register("margin_distillation")
class MarginDistillation(nn.Module):
    """ArcFace to the teacher's class centres, which stay where they are.

    The margin of an image grows with the cosine of the teacher's embedding to its own centre:
    what the teacher is sure of has to be learnt closely. Negative cosines count as 0; the authors'
    code would give them margins below the smallest.
    """

    def __init__(
        self, settings: MarginDistillationSettings, embedding: int, identities: int
    ) -> None:
        super().__init__()
        self.scale = settings.scale
        self.smallest, self.largest = settings.smallest_margin, settings.largest_margin

    def forward(self, inputs: LossInputs) -> Tensor:
        assert inputs.teacher_centres is not None, "the centres are the teacher's"
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            centres = inputs.teacher_centres
            certainty = (inputs.unit_teacher * centres[inputs.labels]).sum(dim=1)
            margins = teacher_margins(certainty, self.smallest, self.largest)
            cosines = F.linear(inputs.unit_embeddings, centres)
            logits = self.scale * add_angular_margin(cosines, inputs.labels, margins)
            return F.cross_entropy(logits, inputs.labels)
