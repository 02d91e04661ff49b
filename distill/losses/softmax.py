"""Normalised softmax: Wang et al., NormFace, 2017. Scaled cosines without a margin."""

from distill.losses.head import HeadSettings, MarginHead
from distill.losses.registry import register


@register("softmax", HeadSettings, needs_centres=True)
class Softmax(MarginHead):
    """Softmax over ``scale * cos(angle)``: the head that the margins make harder."""
