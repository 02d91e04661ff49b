"""The input format of a network, stated explicitly and never guessed from its graph."""

import hashlib
import json
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError
from teachers.framing import scaling_of, visible_part

ChannelOrder = Literal["RGB", "BGR"]
Mean = Annotated[float, Field(ge=-65_536, le=65_536)]
Deviation = Annotated[float, Field(gt=0, le=65_536)]
REQUIRED = ("colour", "mean", "std")
"""If any of these is wrong, a network still returns embeddings, only worse ones."""
LARGEST_SIDE = 4096
"""Larger than any network needs; a larger value in a bundle only allocates memory."""

Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
# TOML and JSON have lists instead of tuples; the members stay strict.
Size = Annotated[tuple[Side, Side], Field(strict=False)]
Means = Annotated[tuple[Mean, Mean, Mean], Field(strict=False)]
Deviations = Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)]


class InputSizeError(UserError):
    """A network does not support images of this size."""


class Preprocessing(BaseModel):
    """``(pixel - mean) / std`` in the given colour order, as float32 NCHW of one size.

    ``mean`` and ``std`` are on the pixel scale, 0 to 255: one number for all channels or one per
    channel, in the order of ``colour``. ``size`` is (height, width). A network that normalises
    inside its graph, as insightface's MXNet exports do, has mean 0 and std 1. The defaults apply to
    networks trained here. For third-party files all three must be given, as a wrong one silently
    gives wrong embeddings (``REQUIRED``, ``teachers.sources.missing_preprocessing``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    colour: ChannelOrder = "RGB"
    mean: Mean | Means = 127.5
    std: Deviation | Deviations = 127.5
    size: Size = (112, 112)

    @classmethod
    def ours(cls, size: tuple[int, int] = (112, 112)) -> "Preprocessing":
        """The preprocessing of networks that are trained here."""
        return cls(colour="RGB", mean=127.5, std=127.5, size=size)

    @property
    def missing(self) -> list[str]:
        """The fields left at defaults that a third-party file must state."""
        return [key for key in REQUIRED if key not in self.model_fields_set]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON; one number and three equal numbers are equivalent."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def canonical_json(self) -> str:
        """Every field in full, keys sorted, no spaces."""
        fields = {
            "colour": self.colour,
            "layout": "NCHW",
            "mean": channels(self.mean),
            "size": list(self.size),
            "std": channels(self.std),
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    def resize(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``[B, H, W, 3]`` of any size to uint8 ``[B, *size, 3]``, never squeezed.

        Scales the part that `visible_part` selects (and raises its errors), by area averaging if
        nothing is enlarged, else bilinearly. Unchanged if the size matches; a view if not scaled.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [B, H, W, 3], not {images.dtype} {list(images.shape)}"
            )
        if images.shape[1:3] == self.size:
            return images
        seen = visible_part((images.shape[1], images.shape[2]), self.size).of(images)
        scaling = scaling_of((seen.shape[1], seen.shape[2]), self.size)
        if scaling == "none":
            return seen
        import cv2

        height, width = self.size
        how = cv2.INTER_AREA if scaling == "area" else cv2.INTER_LINEAR
        resized = np.empty((len(images), height, width, 3), np.uint8)
        for source, target in zip(seen, resized, strict=True):
            cv2.resize(source, (width, height), dst=target, interpolation=how)
        return resized

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[B, H, W, 3]`` of any size to float32 ``[B, 3, *size]``, contiguous."""
        resized = self.resize(images)
        ordered = resized if self.colour == "RGB" else resized[..., ::-1]
        pixels = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2)).astype(np.float32)
        pixels -= np.asarray(channels(self.mean), np.float32)[:, None, None]
        pixels /= np.asarray(channels(self.std), np.float32)[:, None, None]
        return pixels


def channels(value: float | tuple[float, float, float]) -> list[float]:
    """One number for each of the three channels."""
    return [float(v) for v in value] if isinstance(value, tuple) else [float(value)] * 3
