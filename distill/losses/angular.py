"""Angular distillation: Yan et al., VarGFaceNet, 2019, Eq. 4 and 5."""

from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import AngularSettings, AngularSquaredSettings


@register("angular")
class Angular(Loss):
    """Eq. 5: the squared distance between the unit embeddings of student and teacher::

        loss = weight * mean over images of  |x - u|^2  =  weight * mean of  2 (1 - cos(x, u))

    for the student's embedding x and the teacher's u, both of length 1. A mean over dimensions as
    well (``nn.MSELoss``) would be smaller by the length of the embedding. It needs no labels.

    Args:
        weight: 7 unless given, as in the paper, meant for the sum over dimensions.
        project: learn a linear map from the width ``embedding`` to ``teacher_embedding``, for a
            student of another width than its teacher.

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
    """Eq. 4, as ShrinkTeaNet has it: the squared distance of the cosine from 1::

        loss = weight * mean over images of  (1 - cos(x, u))^2

    for the student's embedding x and the teacher's u. It shares only the minimiser with
    ``Angular``: the pull towards the teacher dies away as the student comes near. It needs no
    labels.

    Args:
        weight: 7 unless given, that of ``Angular``, as the paper gives none for this form.
        project: as of ``Angular``.

    Example:
        >>> loss = AngularSquared()
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 32)).backward()
    """

    settings: AngularSquaredSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        cosines = (inputs.unit_embeddings * inputs.unit_teacher).sum(dim=1)
        return (1.0 - cosines).square().mean()
