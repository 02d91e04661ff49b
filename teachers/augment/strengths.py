"""What changes a picture in an augmented view, and by how much."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Raised when the same strengths would give other pixels: the teacher's answers are of pixels."""

Amount = Annotated[float, Field(ge=0, le=0.5)]
Share = Annotated[float, Field(ge=0, le=1)]
"""Of the views; each change is drawn by itself."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CropMotion(_Table):
    """In ``share`` of the views another part of the face is seen: moved by up to ``shift`` of the
    side, ``scale`` larger or smaller (1 +- this), turned by up to ``rotation`` degrees."""

    share: Share = 0.5
    shift: Amount = 0.05
    scale: Amount = 0.12
    rotation: float = Field(default=8.0, ge=0, le=180)


class Tone(_Table):
    """In ``share`` of the views other light, and another camera.

    ``brightness`` is a share of white; ``contrast`` and the saturation of ``colour`` are 1 +- this,
    the gain of each channel 1 +- a quarter of ``colour``; ``gamma`` is e to the power of +- this.
    """

    share: Share = 0.5
    brightness: Amount = 0.15
    contrast: Amount = 0.25
    gamma: float = Field(default=0.3, ge=0, le=2)
    colour: Amount = 0.3


class Blur(_Table):
    """In ``share`` of the views a Gaussian of up to ``sigma`` pixels, of 112 in height."""

    share: Share = 0.15
    sigma: float = Field(default=1.5, gt=0, le=20)


class LowResolution(_Table):
    """In ``share`` of the views brought down to as few as ``pixels`` of height, and up again."""

    share: Share = 0.15
    pixels: int = Field(default=28, ge=4, le=4096)


class Jpeg(_Table):
    """In ``share`` of the views compressed as a JPEG of a quality from ``quality`` to 95."""

    share: Share = 0.15
    quality: int = Field(default=30, ge=1, le=95)


class Erase(_Table):
    """In ``share`` of the views a box of one colour, each side up to ``side`` of the picture's."""

    share: Share = 0.15
    side: float = Field(default=0.4, gt=0, le=1)


class Strengths(_Table):
    """How far a view may be from its picture; what is drawn of a change is even up to its strength.

    ``grey`` is the share of views without colour, and ``mix`` that of views that are blended with
    another picture of the data set. ``seed`` is that of the draws.
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
        """Whether every view would be the picture itself, or its mirror."""
        parts = (self.crop, self.tone, self.blur, self.low_resolution, self.jpeg, self.erase)
        return not (self.grey or self.mix or any(part.share for part in parts))

    def digest(self, images: str) -> str:
        """SHA-256 of all that the pixels of the views follow from, but for the pictures themselves.

        ``images`` is the digest of the data set, whose pictures are blended with ``mix``.
        """
        said: dict[str, Any] = {"version": VERSION, **self.model_dump()}
        if self.mix:
            said["images"] = images
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
