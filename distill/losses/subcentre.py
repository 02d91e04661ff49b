"""Sub-center ArcFace: Deng et al., 2020. Several centres for each identity; the nearest counts."""

from distill.losses.arcface import ArcFace
from distill.losses.registry import register


@register("subcentre")
class Subcentre(ArcFace):
    """ArcFace with the cosine to the nearest sub-centre, so that wrong images gather elsewhere.

    ``LossInputs.cosines`` takes the nearest, for this and every other loss of the stage. Centres of
    a stage with another number of them per identity are not taken over.
    """
