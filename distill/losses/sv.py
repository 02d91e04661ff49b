"""Support-vector guided softmax: Wang et al., 2018 (SV-X-Softmax), on top of the combined margin.

The third training step of the Meituan paper, Eq. 5 and 6.
"""

import torch
from torch import Tensor

from distill.losses.combined import Combined
from distill.losses.loss import register
from distill.losses.settings import SVSettings


@register("sv")
class SupportVectors(Combined):
    """The combined margin with larger non-target logits for hard negatives.

    The formula of ``Combined`` with, where cos a_k > t::

        n_k = q cos a_k + q - 1

    for the factor q. This multiplies the exponential by exp(s (q - 1) (cos a_k + 1)). As printed,
    Eq. 6 also multiplies by the indicator, which would remove easy identities from the softmax. The
    indicator belongs in the exponent, as in the authors' SV-X-Softmax.

    Args:
        identities, embedding: the shape of the class weights.
        t: the factor q; default 1.2; 1 has no effect.
        m1, m2, m3: see ``Combined``.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = SupportVectors(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: SVSettings

    def non_target_logits(self, cosines: Tensor, target: Tensor) -> Tensor:
        harder = self.settings.t * cosines + (self.settings.t - 1.0)
        return torch.where(cosines > target[:, None], harder, cosines)
