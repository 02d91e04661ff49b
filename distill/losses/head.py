"""What all margin heads share: a softmax over the scaled cosines to the class centres.

A head says how the cosine to the true identity's centre is made harder, and some also how the
cosines to the other centres are. It sees cosines only, so it does not matter whether the centres
are those of all identities, nor whether they lie on several ranks (``distill.losses.sharded``).
"""

import math

import torch
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.settings import HeadSettings


class MarginHead(nn.Module):
    """Cross entropy of ``scale`` times the cosines with their margins."""

    def __init__(self, settings: HeadSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.settings = settings

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        """The target logits [B] before the scale: the cosines ``true`` to the centres of the
        images' own identities, with the margin; as they are where there is none."""
        return true

    def non_target_logits(self, cosines: Tensor, with_margin: Tensor) -> Tensor:
        """The non-target logits before the scale, of the ``cosines`` [B, K] to all centres.

        ``with_margin`` [B] is what ``target_logits`` gave. Values at the labels are not used.
        """
        return cosines

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            with_margin = self.target_logits(inputs.target_logits.clamp(-1.0, 1.0), inputs)
            others = self.non_target_logits(inputs.cosines, with_margin)
            scale = self.settings.scale
            losses = inputs.cross_entropy(scale * with_margin, scale * others)
            beta = self.settings.class_balance
            if beta is not None:
                assert inputs.identity_counts is not None, "class balance needs identity_counts"
                losses = losses * balanced_weights(inputs.identity_counts[inputs.labels], beta)
            return losses.mean()


def balanced_weights(counts: Tensor, beta: float) -> Tensor:
    """``(1 - beta) / (1 - beta^n)`` for each of the ``counts`` n of images: 1 for a single image.

    Source: the Meituan paper, Eq. 9, after Cui et al., 2019. As printed there, and not normalised:
    the loss shrinks as the images of an identity grow in number, up to their number times.
    """
    # In float64: 1 - 0.9999 has four digits in float32.
    effective = -torch.expm1(counts.clamp_min(1).double() * math.log(beta))
    return ((1.0 - beta) / effective).float()


def sines(cosines: Tensor) -> Tensor:
    """The sines of angles in [0, pi], with a finite derivative at both ends."""
    return (1.0 - cosines.square()).clamp_min(1e-12).sqrt()


def angles(cosines: Tensor) -> Tensor:
    """The angles in radians. The arc cosine has no derivative at 1 and -1, so it stops short."""
    return cosines.clamp(-1.0 + 1e-7, 1.0 - 1e-7).acos()
