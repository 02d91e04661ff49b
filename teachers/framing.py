"""Which part of an aligned face a network sees: the centre, at the network's aspect ratio.

A face is cropped, never squeezed. The 112x96 input of SphereFace and MobileFaceNet is the middle
columns of ArcFace's 112x112, at the same scale. An image that is not square is regarded as the
centre of a square of its longer side, so that 112x96 images are those same columns.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError

Scaling = Literal["none", "area", "bilinear"]
ROUNDING = 0.02
"""Tolerance of aspect ratios: sizes are whole pixels, and often multiples of 8."""
_USUAL_STEP = 16
"""Input sizes of most networks are multiples of this stride."""
_MOST_CUT = 0.05
"""Share of an image outside an input size that is said to have its aspect"""
Count = Annotated[int, Field(ge=0)]


class Crop(BaseModel):
    """Rows ``top`` to ``top + height`` and columns ``left`` to ``left + width`` of an image."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    top: Count
    left: Count
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]

    def of(self, images: np.ndarray) -> np.ndarray:
        """This part of ``[B, H, W, 3]``, as a view."""
        rows = slice(self.top, self.top + self.height)
        return images[:, rows, self.left : self.left + self.width]


def visible_part(image: tuple[int, int], network: tuple[int, int]) -> Crop:
    """What a network of input size ``network`` (height, width) sees of images of size ``image``.

    Both sides are cut equally, so that the mirror image shows the same. Raises ``UserError`` if the
    images are narrower or lower than the network's part by more than `ROUNDING`.
    """
    if not shows_all(image, network):
        (height, width), (input_height, input_width) = image, network
        raise UserError(
            f"images of {height}x{width} pixels show less of a face than a network of "
            f"{input_height}x{input_width} expects; faces are cropped to its aspect, never "
            f"squeezed: use square images, or a network with the aspect of the images"
            f"{_example(image, network)}"
        )
    rows, columns = map(_cut, image, _wanted(image, network))
    return Crop(top=rows // 2, left=columns // 2, height=image[0] - rows, width=image[1] - columns)


def shows_all(image: tuple[int, int], network: tuple[int, int]) -> bool:
    """Whether images of size ``image`` cover what a network of input size ``network`` sees."""
    wanted = _wanted(image, network)
    return all(have >= part * (1 - ROUNDING) for have, part in zip(image, wanted, strict=True))


def scaling_of(crop: tuple[int, int], network: tuple[int, int]) -> Scaling:
    """How a crop of this size is scaled to the input: area averaging if nothing is enlarged."""
    if crop == network:
        return "none"
    return "area" if network[0] <= crop[0] and network[1] <= crop[1] else "bilinear"


def crops(image: tuple[int, int], network: tuple[int, int]) -> bool:
    """Whether the network sees less than the whole image."""
    part = visible_part(image, network)
    return (part.height, part.width) != image


def _example(image: tuple[int, int], network: tuple[int, int]) -> str:
    """The smallest usual input size, at least as large as ``network``, that fits the images."""
    longer = -(-max(network) // _USUAL_STEP) * _USUAL_STEP
    for side in range(longer, 2 * longer + 1, _USUAL_STEP):
        shorter = round(side * min(image) / max(image) / _USUAL_STEP) * _USUAL_STEP
        size = (side, shorter) if image[0] >= image[1] else (shorter, side)
        cut = 1 - (shorter / side) / (min(image) / max(image))
        if cut <= _MOST_CUT and shows_all(image, size):
            return f", such as {size[0]}x{size[1]}"
    return ""


def _wanted(image: tuple[int, int], network: tuple[int, int]) -> tuple[float, float]:
    """The (height, width) that the network sees of the square of the image's longer side."""
    scale = max(image) / max(network)
    return network[0] * scale, network[1] * scale


def _cut(have: int, wanted: float) -> int:
    """The number of ``have`` pixels to cut: even, closest to leaving ``wanted``, never all."""
    return min(2 * max(round((have - wanted) / 2), 0), 2 * ((have - 1) // 2))
