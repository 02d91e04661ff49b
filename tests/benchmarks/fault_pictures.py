"""Images that no training set should contain, made from its own: duplicates and non-faces."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from curation.image_set import ImageSet
from curation.images import decode, encode_jpeg
from curation.sample.non_faces import KINDS, draw_non_face
from teachers.embedder import Embedder, embed_both, unit_and_norm

CLUTTER, CROPS, BLURRED, TINY, REPEATED = 60, 40, 40, 20, 200
_SIDE = 112
_BATCH = 32


@dataclass(frozen=True)
class FaultPictures:
    """n images as JPEG, with the teacher's embeddings."""

    files: list[bytes]
    kinds: np.ndarray
    """str ``[n]``"""
    sources: np.ndarray
    """int64 ``[n]``: the image it was made from; -1 for none"""
    unit: np.ndarray
    """float16 ``[n, 2, D]``"""
    norm: np.ndarray
    """float32 ``[n, 2]``"""

    @property
    def repeated(self) -> np.ndarray:
        """bool ``[n]``: a duplicate of its source; the others show no usable face."""
        return np.char.startswith(self.kinds, "repeated")


def fault_pictures(
    images: ImageSet, teacher: Embedder, seed: int, cache_root: Path
) -> FaultPictures:
    """Make and embed the images, or read them from ``cache_root``."""
    made = list(_draw(images, np.random.default_rng(seed)))
    files = [encode_jpeg(np.ascontiguousarray(picture), 90) for picture, _, _ in made]
    kept = cache_root / f"faults-{images.digest[:12]}-{teacher.digest[:12]}-{seed}.npy"
    if not kept.exists():
        np.save(kept, _embed(files, teacher))
    unit, norm = unit_and_norm(np.load(kept, allow_pickle=False))
    kinds, sources = (np.array(column) for column in list(zip(*made, strict=True))[1:])
    return FaultPictures(files, kinds, sources, unit, norm)


def _draw(images: ImageSet, random: np.random.Generator) -> Iterator[tuple[np.ndarray, str, int]]:
    """Images RGB uint8, their kinds, and their sources."""
    for number in range(CLUTTER):
        kind = KINDS[number % len(KINDS)]
        yield draw_non_face(kind, random), kind, -1
    ways = [_cropped] * CROPS + [_blurred] * BLURRED + [_tiny] * TINY + [_repeated] * REPEATED
    sources = random.choice(len(images), len(ways), replace=False)
    for way, source in zip(ways, sources.tolist(), strict=True):
        yield way(decode(images.read(source)), random), way.__name__.strip("_"), source


def _cropped(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An enlarged corner, like a detection beside the face."""
    y, x = random.integers(0, 2, 2) * 72
    return cv2.resize(picture[y : y + 40, x : x + 40], (_SIDE, _SIDE))


def _blurred(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), float(random.uniform(7, 11)))


def _tiny(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Seven pixels wide, enlarged."""
    small = cv2.resize(picture, (7, 7), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (_SIDE, _SIDE))


def _repeated(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Saved again, brightened, shifted or mirrored."""
    way = random.integers(0, 4)
    if way == 0:
        return decode(encode_jpeg(picture, int(random.integers(30, 70))))
    if way == 1:
        brighter = picture * random.uniform(0.85, 1.15) + random.uniform(-12, 12)
        return np.clip(brighter, 0, 255).astype(np.uint8)
    if way == 2:
        matrix = cv2.getRotationMatrix2D(
            (_SIDE / 2, _SIDE / 2), float(random.uniform(-3, 3)), float(random.uniform(0.97, 1.03))
        )
        matrix[:, 2] += random.uniform(-2, 2, 2)
        return cv2.warpAffine(picture, matrix, (_SIDE, _SIDE), borderMode=cv2.BORDER_REFLECT)
    return picture[:, ::-1]


def _embed(files: list[bytes], teacher: Embedder) -> np.ndarray:
    parts = []
    for first in range(0, len(files), _BATCH):
        batch = np.stack([decode(file) for file in files[first : first + _BATCH]])
        parts.append(embed_both(teacher, batch))
    return np.concatenate(parts)
