"""CosFace: Wang et al., 2018, Eq. 4. A margin taken from the cosine to the identity's centre."""

from torch import Tensor

from distill.losses.head import MarginHead
from distill.losses.loss import LossInputs, register
from distill.losses.settings import CosFaceSettings


@register("cosface")
class CosFace(MarginHead):
    """A margin taken from the cosine between an embedding and the class weight of its identity.

    The formula of ``MarginHead`` with t = cos a_y - m and n_k = cos a_k::

        loss = mean of  -log( e_y / (e_y + sum over k != y of exp(s cos a_k)) )
        e_y = exp(s (cos a_y - m))

    Args:
        identities, embedding: the shape of the class weights.
        margin: m, 0.35 unless given, as in the paper; insightface's arcface_torch has 0.40.
        scale: s, 64 unless given.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; none unless given.
        weight: multiplies the loss.

    Example:
        >>> loss = CosFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: CosFaceSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        return cosines - self.settings.margin
