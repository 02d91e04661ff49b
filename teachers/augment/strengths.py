"""The kinds and strengths of changes in an augmented view."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Incremented when the same strengths give different pixels, which the embeddings depend on."""

Amount = Annotated[float, Field(ge=0, le=0.5)]
Share = Annotated[float, Field(ge=0, le=1)]
"""Share of the views; each change is drawn independently."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CropMotion(_Table):
    """Shows a different part of the face in ``share`` of the views: moved by up to ``shift`` of
    the side, scaled by 1 +- ``scale``, rotated by up to ``rotation`` degrees."""

    share: Share = 0.5
    shift: Amount = 0.05
    scale: Amount = 0.12
    rotation: float = Field(default=8.0, ge=0, le=180)


class Tone(_Table):
    """Changes lighting and colours in ``share`` of the views.

    ``brightness`` is a share of white; ``contrast`` and the saturation (``colour``) are 1 +- this,
    the gain of each channel 1 +- a quarter of ``colour``; ``gamma`` is e to the power of +- this.
    """

    share: Share = 0.5
    brightness: Amount = 0.15
    contrast: Amount = 0.25
    gamma: float = Field(default=0.3, ge=0, le=2)
    colour: Amount = 0.3


class Blur(_Table):
    """Gaussian blur in ``share`` of the views, up to ``sigma`` pixels at a height of 112."""

    share: Share = 0.15
    sigma: float = Field(default=1.5, gt=0, le=20)


class LowResolution(_Table):
    """Reduces ``share`` of the views to a height of ``pixels`` or more, and enlarges them again."""

    share: Share = 0.15
    pixels: int = Field(default=28, ge=4, le=4096)


class Jpeg(_Table):
    """Compresses ``share`` of the views as JPEG with a quality of ``quality`` to 95."""

    share: Share = 0.15
    quality: int = Field(default=30, ge=1, le=95)


class Erase(_Table):
    """Fills a box in ``share`` of the views with one colour, each side up to ``side`` of it."""

    share: Share = 0.15
    side: float = Field(default=0.4, gt=0, le=1)


class Strengths(_Table):
    """How far a view may differ from its image; changes are uniform up to their strength.

    ``grey`` is the share of views without colour, ``mix`` that of views blended with another
    image of the data set. ``seed`` seeds the random numbers.
    """

    seed: int = Field(default=0, ge=0, lt=2**32)
    crop: CropMotion = CropMotion()
    tone: Tone = Tone()
    grey: Share = 0.1
    blur: Blur = Blur()
    low_resolution: LowResolution = LowResolution()
    jpeg: Jpeg = Jpeg()
    erase: Erase = Erase()
    mix: Share = 0.0

    @property
    def change_nothing(self) -> bool:
        """Whether every view would be the image itself or its mirror image."""
        parts = (self.crop, self.tone, self.blur, self.low_resolution, self.jpeg, self.erase)
        return not (self.grey or self.mix or any(part.share for part in parts))

    def digest(self, images: str) -> str:
        """SHA-256 of everything that determines the pixels of the views besides the images.

        ``images`` is the digest of the data set, whose images are blended in with ``mix``.
        """
        content: dict[str, Any] = {"version": VERSION, **self.model_dump()}
        if self.mix:
            content["images"] = images
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
