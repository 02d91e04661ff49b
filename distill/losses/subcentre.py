"""Sub-center ArcFace: Deng et al., 2020. Several centres for each identity; the nearest counts."""

from pydantic import Field

from distill.losses.arcface import ArcFace, ArcFaceSettings
from distill.losses.registry import register


class SubcentreSettings(ArcFaceSettings):
    """``subcentres`` is the K of the paper, which finds 3 best; ``margin`` is in radians."""

    subcentres: int = Field(default=3, ge=2, le=16)

    @property
    def centres_per_identity(self) -> int:
        return self.subcentres


@register("subcentre", SubcentreSettings, needs_centres=True)
class Subcentre(ArcFace):
    """ArcFace with the cosine to the nearest sub-centre, so that wrong images gather elsewhere.

    ``LossInputs.cosines`` takes the nearest, for this and every other loss of the stage. Centres of
    a stage with another number of them per identity are not taken over.
    """
