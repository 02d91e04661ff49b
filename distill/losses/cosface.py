"""CosFace: Wang et al., 2018, Eq. 4. A margin subtracted from the cosine to the class weight."""

from torch import Tensor

from distill.losses.head import MarginHead
from distill.losses.loss import LossInputs, register
from distill.losses.settings import CosFaceSettings


@register("cosface")
class CosFace(MarginHead):
    """A margin subtracted from the cosine of an embedding and the class weight of its identity.

    The formula of ``MarginHead`` with t = cos a_y - m and n_k = cos a_k::

        loss = mean of  -log( e_y / (e_y + sum over k != y of exp(s cos a_k)) )
        e_y = exp(s (cos a_y - m))

    Args:
        identities, embedding: the shape of the class weights.
        margin: m; default 0.35, as in the paper; insightface's arcface_torch uses 0.40.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = CosFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: CosFaceSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        return cosines - self.settings.margin
