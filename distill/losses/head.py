"""Margin heads: a softmax over the scaled cosines to the class weights.

A head defines how a margin reduces the target logit, that of the image's own identity. Some heads
also change the non-target logits. A head sees cosines only, so it works the same with sampled or
sharded class weights (``distill.losses.class_weights``).
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

    for an image of identity y and the scale s. a_k is the angle between the embedding and the class
    weight of identity k; ``target_logits`` computes t from cos a_y, ``non_target_logits`` computes
    n_k from cos a_k. The weight b_y is 1, or comes from ``balanced_weights``. With
    ``filter_above``, ``filtered_negatives`` is applied to cos a_k first.
    """

    settings: HeadSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        """The target logits [B] before scaling: the ``cosines`` [B] between images and the class
        weights of their own identities, with the margin applied; no margin by default."""
        return cosines

    def non_target_logits(self, cosines: Tensor, target: Tensor) -> Tensor:
        """The non-target logits [B, K] before scaling, from the ``cosines`` [B, K].

        ``target`` [B] is the result of ``target_logits``. Values at the labels are ignored.
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
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = Softmax(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """


def filtered_negatives(cosines: Tensor, threshold: float) -> Tensor:
    """Set non-target ``cosines`` [B, K] above ``threshold`` to 0.

    An image that similar to another identity is probably mislabelled, or its identity exists
    twice. It is treated as unrelated instead of being pushed away. Source: abnormal negatives in
    An et al., Partial FC, 2021; ``interclass_filtering_threshold`` in insightface's arcface_torch.
    No gradient flows through filtered values.
    """
    return cosines.masked_fill(cosines > threshold, 0.0)


def balanced_weights(counts: Tensor, beta: float) -> Tensor:
    """``(1 - beta) / (1 - beta^n)`` for each image count n in ``counts``, in its shape.

    A single image has the weight 1. Source: the Meituan paper, Eq. 9, after Cui et al., 2019. Not
    normalised, as printed there: the loss of an identity with n images shrinks by up to a factor
    of n.
    """
    # float64, because 1 - 0.9999 keeps only four digits in float32
    effective = -torch.expm1(counts.clamp_min(1).double() * math.log(beta))
    return ((1.0 - beta) / effective).float()


def sines(cosines: Tensor) -> Tensor:
    """The sines of angles in [0, pi], in the shape of ``cosines``; derivatives are finite."""
    return (1.0 - cosines.square()).clamp_min(1e-12).sqrt()


def angles(cosines: Tensor) -> Tensor:
    """The angles in radians, in the shape of ``cosines``.

    Cosines are clamped, as acos has no finite derivative at 1 and -1.
    """
    return cosines.clamp(-1.0 + 1e-7, 1.0 - 1e-7).acos()
