"""Angular distillation: Yan et al., VarGFaceNet, 2019, Eq. 4 and 5."""

from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import AngularSettings, AngularSquaredSettings


@register("angular")
class Angular(Loss):
    """Eq. 5: the squared distance between the unit embeddings of student and teacher::

        loss = weight * mean over images of  |x - u|^2  =  weight * mean of  2 (1 - cos(x, u))

    for the student's embedding x and the teacher's u, both of length 1. A mean over dimensions as
    well (``nn.MSELoss``) would be smaller by a factor of D, the embedding width. Needs no labels.

    Args:
        weight: default 7, as in the paper; it applies to the sum over dimensions.
        project: learn a linear map from the width ``embedding`` to ``teacher_embedding``, for a
            student whose width differs from its teacher's.

    Example:
        >>> loss = Angular(weight=1.0)
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 32)).backward()
        >>> loss = Angular(project=True, embedding=32, teacher_embedding=64)
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 64)).backward()
    """

    settings: AngularSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        difference = inputs.unit_embeddings - inputs.unit_teacher
        return difference.square().sum(dim=1).mean()


@register("angular_squared")
class AngularSquared(Loss):
    """Eq. 4, also used by ShrinkTeaNet: the squared difference between the cosine and 1::

        loss = weight * mean over images of  (1 - cos(x, u))^2

    for the student's embedding x and the teacher's u. It has the same minimum as ``Angular``, but
    its gradient vanishes as the student approaches the teacher. Needs no labels.

    Args:
        weight: default 7, as for ``Angular``; the paper states none for this form.
        project: see ``Angular``.

    Example:
        >>> loss = AngularSquared()
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 32)).backward()
    """

    settings: AngularSquaredSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        cosines = (inputs.unit_embeddings * inputs.unit_teacher).sum(dim=1)
        return (1.0 - cosines).square().mean()
