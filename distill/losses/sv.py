"""Support-vector guided softmax: Wang et al., 2018 (SV-X-Softmax), on top of the combined margin.

As the third step of the Meituan paper, Eq. 5 and 6.
"""

import torch
from torch import Tensor

from distill.losses.combined import Combined
from distill.losses.loss import register
from distill.losses.settings import SVSettings


@register("sv")
class SupportVectors(Combined):
    """The combined margin, and larger non-target logits for identities that are mistaken for it.

    The formula of ``Combined`` with, where cos a_k > t::

        n_k = q cos a_k + q - 1

    for the factor q. The change multiplies the exponential by exp(s (q - 1) (cos a_k + 1)). As
    printed, Eq. 6 multiplies by the indicator as well, and the easy identities would vanish from
    the softmax; it belongs into the exponent, as in the authors' own SV-X-Softmax.

    Args:
        identities, embedding: the shape of the class weights.
        t: the factor q, 1.2 unless given; with 1 nothing is changed.
        m1, m2, m3: as of ``Combined``.
        scale: s, 64 unless given.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; none unless given.
        weight: multiplies the loss.

    Example:
        >>> loss = SupportVectors(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: SVSettings

    def non_target_logits(self, cosines: Tensor, target: Tensor) -> Tensor:
        harder = self.settings.t * cosines + (self.settings.t - 1.0)
        return torch.where(cosines > target[:, None], harder, cosines)
