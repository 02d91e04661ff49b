"""Support-vector guided softmax: Wang et al., 2018 (SV-X-Softmax), on top of the combined margin.

As the third step of the Meituan paper, Eq. 5 and 6.
"""

import torch
from torch import Tensor

from distill.losses.combined import Combined
from distill.losses.registry import register
from distill.losses.settings import SVSettings


@register("sv")
class SupportVectors(Combined):
    """The combined margin, and ``t * cos + t - 1`` for the identities that are mistaken for it.

    Those are the identities whose cosine is above the true identity's with its margin. The change
    multiplies their exponential by ``exp(scale * (t - 1) * (cos + 1))``. As printed, Eq. 6
    multiplies by the indicator as well, and the easy identities would vanish from the softmax; it
    belongs into the exponent, as in the authors' own SV-X-Softmax.
    """

    settings: SVSettings

    def non_target_logits(self, cosines: Tensor, with_margin: Tensor) -> Tensor:
        harder = self.settings.t * cosines + (self.settings.t - 1.0)
        return torch.where(cosines > with_margin[:, None], harder, cosines)
