"""ArcFace: Deng et al., 2019, Eq. 3, and Sub-center ArcFace: Deng et al., 2020."""

import torch
from torch import Tensor

from distill.losses.head import MarginHead, sines
from distill.losses.loss import LossInputs, register
from distill.losses.settings import ArcFaceSettings, SubcentreSettings


@register("arcface")
class ArcFace(MarginHead):
    """A margin added to the angle between an embedding and the class weight of its identity.

    The formula of ``MarginHead`` with t = cos(a_y + m) and n_k = cos a_k::

        loss = mean of  -log( e_y / (e_y + sum over k != y of exp(s cos a_k)) )
        e_y = exp(s cos(a_y + m))

    Where a_y + m exceeds pi, t continues as a straight line: see ``angular_margin``.

    Args:
        identities, embedding: the shape of the class weights.
        margin: m in radians; default 0.5.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = ArcFace(identities=100, embedding=32, margin=0.4)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: ArcFaceSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        return angular_margin(cosines, torch.full_like(cosines, self.settings.margin))


@register("subcentre")
class Subcentre(ArcFace):
    """ArcFace with several class weights per identity, of which the nearest one counts.

    Mislabelled images then collect at their own class weight. The formula of ``ArcFace`` with::

        cos a_k = max over j of <x, w_kj>

    for the embedding x and the class weights w_k1 ... w_kS of identity k, all of length 1. Every
    loss of the stage uses this maximum. Class weights of an earlier stage with a different number
    of sub-centres are not reused.

    Args:
        identities, embedding: with ``subcentres``, the shape of the class weights.
        subcentres: S; default 3, the best value in the paper.
        margin: m in radians; default 0.5.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = Subcentre(identities=100, embedding=32, subcentres=2)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
        >>> loss.class_weights.shape
        torch.Size([100, 2, 32])
    """

    settings: SubcentreSettings


def angular_margin(cosines: Tensor, margins: Tensor) -> Tensor:
    """``cos(angle + margin)`` for cosines in [-1, 1] and margins in radians, of equal shape.

    Beyond ``angle = pi - margin`` the cosine would rise again. There the function continues as
    ``cos(angle) - margin * sin(margin)``, so that it decreases with the angle everywhere.
    """
    with_margin = cosines * margins.cos() - sines(cosines) * margins.sin()
    beyond = cosines <= -margins.cos()
    return torch.where(beyond, cosines - margins * margins.sin(), with_margin)


def add_angular_margin(cosines: Tensor, labels: Tensor, margin: float | Tensor) -> Tensor:
    """Apply ``angular_margin`` at each row's label; the other cosines [B, K] are unchanged.

    ``margin`` is a number for all rows or a tensor [B].
    """
    rows = torch.arange(len(labels), device=labels.device)
    true = cosines[rows, labels].clamp(-1.0, 1.0)
    margins = margin if isinstance(margin, Tensor) else torch.full_like(true, margin)
    return cosines.index_put((rows, labels), angular_margin(true, margins))
