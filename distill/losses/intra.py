"""The intra loss of the Meituan paper, Eq. 7: pulls images to their class weights."""

from torch import Tensor

from distill.losses.head import angles
from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import IntraSettings


@register("intra")
class Intra(Loss):
    """The mean angle, in radians, between embeddings and the class weights of their identities::

        loss = mean over images of  arccos <x, w_y>

    for the embedding x and the class weight w_y of its identity, both of length 1.

    Args:
        identities, embedding: the shape of the class weights.
        weight: multiplies the loss.

    Example:
        >>> loss = Intra(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: IntraSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        return inputs.mean_over_labelled(angles(inputs.target_logits))
