"""MarginDistillation: Svitov & Alyamkin, 2020. Centres and margins come from the teacher."""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.arcface import add_angular_margin
from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import MarginDistillationSettings
from distill.losses.triplet_distillation import teacher_margins


@register("margin_distillation")
class MarginDistillation(Loss):
    """ArcFace to the teacher's class centres, with a margin for each image::

        loss = mean of  -log( e_y / (e_y + sum over k != y of exp(s cos a_k)) )
        e_y = exp(s cos(a_y + m))
        m = smallest + (largest - smallest) * q / (highest q of the batch)    q = <u, v_y>

    for the angle a_k between the student's embedding and the teacher's centre v_k, which is fixed,
    and the teacher's embedding u. Images that the teacher places close to their centre get a larger
    margin. A negative q counts as 0; the authors' code would give it a margin below the smallest.

    Args:
        teacher_centres: v, the teacher's mean embedding of each identity, [identities, D].
        smallest_margin, largest_margin: in radians; default 0.2 and 0.5.
        scale: s; default 64.
        weight: multiplies the loss.
        project: learn a linear map from the width ``embedding`` to the teacher's.

    Example:
        >>> loss = MarginDistillation(teacher_centres=torch.randn(100, 32))
        >>> embeddings, teacher = torch.randn(8, 32, requires_grad=True), torch.randn(8, 32)
        >>> loss(embeddings, torch.arange(8), teacher).backward()
    """

    settings: MarginDistillationSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        assert inputs.teacher_centres is not None, "the centres are the teacher's"
        settings, centres = self.settings, inputs.teacher_centres
        certainty = (inputs.unit_teacher * centres[inputs.labels]).sum(dim=1)
        if inputs.label_weights is not None:
            certainty = certainty.masked_fill(inputs.label_weights == 0, 0.0)
        margins = teacher_margins(certainty, settings.smallest_margin, settings.largest_margin)
        cosines = F.linear(inputs.unit_embeddings, centres)
        logits = settings.scale * add_angular_margin(cosines, inputs.labels, margins)
        losses = F.cross_entropy(logits, inputs.labels, reduction="none")
        return inputs.mean_over_labelled(losses)
