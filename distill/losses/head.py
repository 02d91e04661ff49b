"""Margin heads: a softmax over the scaled cosines to the class weights.

A head says how the target logit, of the image's own identity, is made smaller by a margin, and some
also how the non-target logits are changed. It sees cosines only, so it does not matter whether the
class weights are those of all identities, nor whether they are sharded over ranks
(``distill.losses.class_weights``).
"""

import math

import torch
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import HeadSettings


class MarginHead(Loss):
    """Cross entropy of ``scale`` times the cosines with their margins::

        loss = mean over images of  -b_y log( e_y / (e_y + sum over k != y of exp(s n_k)) )
        e_y = exp(s t)

    for an image of identity y, with the scale s; t is the target logit that ``target_logits`` makes
    of cos a_y, n_k the non-target logits that ``non_target_logits`` makes of cos a_k, and a_k the
    angle between the embedding and the class weight of identity k. The weight b_y is 1, or that of
    ``balanced_weights``. With ``filter_above`` cos a_k is first that of ``filtered_negatives``.
    """

    settings: HeadSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        """The target logits [B] before the scale: the ``cosines`` [B] to the class weights of the
        images' own identities, with the margin; as they are where there is none."""
        return cosines

    def non_target_logits(self, cosines: Tensor, target: Tensor) -> Tensor:
        """The non-target logits before the scale, of the ``cosines`` [B, K] to all class weights.

        ``target`` [B] is what ``target_logits`` gave. Values at the labels are not used.
        """
        return cosines

    def formula(self, inputs: LossInputs) -> Tensor:
        target = self.target_logits(inputs.target_logits.clamp(-1.0, 1.0), inputs)
        cosines = inputs.cosines
        if self.settings.filter_above is not None:
            cosines = filtered_negatives(cosines, self.settings.filter_above)
        non_target = self.non_target_logits(cosines, target)
        scale = self.settings.scale
        losses = inputs.cross_entropy(scale * target, scale * non_target)
        beta = self.settings.class_balance
        if beta is not None:
            assert inputs.identity_counts is not None, "class balance needs identity_counts"
            losses = losses * balanced_weights(inputs.identity_counts[inputs.labels], beta)
        return inputs.mean_over_labelled(losses)


@register("softmax")
class Softmax(MarginHead):
    """Normalised softmax: Wang et al., NormFace, 2017. Scaled cosines without a margin.

    The formula of ``MarginHead`` with t = cos a_y and n_k = cos a_k::

        loss = mean of  -log( exp(s cos a_y) / (sum over k of exp(s cos a_k)) )

    Args:
        identities, embedding: the shape of the class weights.
        scale: s, 64 unless given.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; none unless given.
        weight: multiplies the loss.

    Example:
        >>> loss = Softmax(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """


def filtered_negatives(cosines: Tensor, threshold: float) -> Tensor:
    """``cosines`` [B, K] to class weights, 0 where they are above ``threshold``; for non-targets.

    An image so similar to another identity is probably one of it under a wrong label, or its
    identity is there twice: it is not pushed away, and counts as one that is unrelated. Source:
    An et al., Partial FC, 2021 (abnormal negatives), as ``interclass_filtering_threshold`` of
    insightface's arcface_torch; no gradient goes through what is filtered.
    """
    return cosines.masked_fill(cosines > threshold, 0.0)


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
