"""Quality measures of one image, without a network: sharpness, brightness, contrast."""

from collections.abc import Callable

import numpy as np

from curation.bad_images import read_pixels
from curation.image_set import ImageSet
from curation.progress import Progress

# Rec. 601, as in JPEG's own luma.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(image: np.ndarray) -> np.ndarray:
    """Luma of each pixel, float32 ``[H, W]`` from 0 to 255, of uint8 RGB ``[H, W, 3]``."""
    return image.astype(np.float32) @ _LUMA


def sharpness(image: np.ndarray) -> float:
    """The variance of the Laplacian of the luma: low if the image is blurred or empty.

    It increases with noise and contrast, so thresholds depend on the data. Source: Pech-Pacheco et
    al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    grey = luma(image)
    neighbours = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((neighbours - 4 * grey[1:-1, 1:-1]).var(dtype=np.float64))


def brightness(image: np.ndarray) -> float:
    """The mean of the luma, 0 to 255."""
    return float(luma(image).mean(dtype=np.float64))


def contrast(image: np.ndarray) -> float:
    """The standard deviation of the luma, 0 to 127.5."""
    return float(luma(image).std(dtype=np.float64))


MEASURES: dict[str, Callable[[np.ndarray], float]] = {
    "sharpness": sharpness,
    "brightness": brightness,
    "contrast": contrast,
}


def measure_images(images: ImageSet, measure: str, progress: Progress | None = None) -> np.ndarray:
    """The measure ``measure`` (a key of ``MEASURES``) of every image: float32 ``[N]``.

    Raises ``UserError`` with the key of an image that cannot be decoded.
    """
    of = MEASURES[measure]
    values = np.empty(len(images), np.float32)
    for i in range(len(images)):
        values[i] = of(read_pixels(images, i))
        if progress is not None and i % 64 == 0:
            progress(i, len(images))
    if progress is not None:
        progress(len(images), len(images))
    return values
