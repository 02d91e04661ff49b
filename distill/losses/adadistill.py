"""AdaDistill: Boutros et al., 2024. Class centres that follow the teacher's embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.all_gather import gather_rows
from distill.losses.arcface import add_angular_margin
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import AdaDistillSettings

_SMALLEST_MOMENTUM = 1e-6


@register("adadistill")
class AdaDistill(nn.Module):
    """ArcFace whose centres are no parameter but a moving average of teacher embeddings.

    The average of an identity gives little weight to the teacher's next vector while the student
    agrees with the teacher and the vector lies at the centre, and much weight while it does not.
    ``centres`` [identities, D] is a buffer in the teacher's width, kept in checkpoints and handed
    on to the next stage. It moves only in training, and by the images of all ranks. The centre is
    moved first, and the loss taken with the new one, as in the authors' code.
    """

    centres: Tensor

    def __init__(self, settings: AdaDistillSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.scale, self.margin = settings.scale, settings.margin
        self.register_buffer("centres", torch.empty(identities, embedding))
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            student = inputs.unit_embeddings
            if self.training:
                self._move_centres(student.detach(), inputs.unit_teacher, inputs.labels)
            cosines = F.linear(student, F.normalize(self.centres))
            logits = self.scale * add_angular_margin(cosines, inputs.labels, self.margin)
            return F.cross_entropy(logits, inputs.labels)

    def _move_centres(self, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        agreement = (student * teacher).sum(dim=1)
        agreement, teacher, labels = map(gather_rows, (agreement, teacher, labels))
        before = self.centres[labels]
        # Rows of one identity are alike, so it does not matter which of them is written last.
        self.centres[labels] = moved_centres(before, teacher, agreement, labels)


def moved_centres(before: Tensor, teacher: Tensor, agreement: Tensor, labels: Tensor) -> Tensor:
    """Where a batch moves the centres of its images' identities, from ``before`` [B, D].

    ``teacher`` [B, D] are unit embeddings, ``agreement`` [B] the cosines of student and teacher. A
    centre keeps the share ``agreement * cos(teacher, centre)``, and takes the rest from the
    teacher's embedding. An identity with several images goes to the mean of what each would make
    of its centre; the authors' code keeps any one of these.
    """
    nearness = F.cosine_similarity(before, teacher).clamp(_SMALLEST_MOMENTUM, 1.0)
    momentum = (agreement * nearness).clamp(_SMALLEST_MOMENTUM, 1.0)[:, None]
    proposed = momentum * before + (1.0 - momentum) * teacher
    same = (labels[:, None] == labels[None, :]).to(proposed.dtype)
    return same @ proposed / same.sum(dim=1, keepdim=True)
