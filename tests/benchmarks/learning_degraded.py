"""Held-out pairs degraded like images from poor cameras, for `just bench-learning`.

Both images of each pair are degraded the same way on every run, and stored losslessly (PNG).
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from curation.images import decode
from curation.pairs import VerificationPairs
from teachers.augment.pictures import blurred, coarsened, recompressed, toned

DARK = 0.3
"""In pixel values."""
SIGMA = 2.0
"""In pixels of 112; training views shift by at most 1.5 by default."""
SHIFT = 4
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
_DARKER = np.rint(DARK * np.arange(256)).astype(np.uint8)

Degrade = Callable[[np.ndarray, int], np.ndarray]
"""Degrades an image uint8 RGB [H, W, 3], given its number in the set."""


def shifted(picture: np.ndarray, number: int) -> np.ndarray:
    """Shift by ``SHIFT`` pixels: right, down, left and up in turn, replicating the border."""
    x, y = (SHIFT * step for step in DIRECTIONS[number % len(DIRECTIONS)])
    source = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    height, width = picture.shape[:2]
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, source, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


DEGRADATIONS: dict[str, Degrade] = {
    "32 pixels": lambda picture, number: coarsened(picture, 32),
    "20 pixels": lambda picture, number: coarsened(picture, 20),
    "blurred": lambda picture, number: blurred(picture, SIGMA),
    "JPEG 20": lambda picture, number: recompressed(picture, 20),
    "dark": lambda picture, number: toned(picture, _DARKER),
    "shifted": shifted,
}


def degraded(pairs: VerificationPairs, name: str) -> VerificationPairs:
    """All images of ``pairs`` after the named degradation."""
    degrade = DEGRADATIONS[name]
    images = [_png(degrade(decode(image), n)) for n, image in enumerate(pairs.images)]
    digest = hashlib.sha256(f"{pairs.digest}, {name}".encode()).hexdigest()
    return replace(pairs, images=images, digest=digest, name=f"{pairs.name}, {name}")


def _png(picture: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise RuntimeError("cv2 could not encode a picture as PNG")
    return encoded.tobytes()
