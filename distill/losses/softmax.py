"""Normalised softmax: Wang et al., NormFace, 2017. Scaled cosines without a margin."""

from distill.losses.head import MarginHead
from distill.losses.registry import register


@register("softmax")
class Softmax(MarginHead):
    """Softmax over ``scale * cos(angle)``: the head that the margins make harder."""
