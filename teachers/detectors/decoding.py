"""Conversion of a detector's output maps to faces; pure functions of arrays.

A map has one value per cell of a grid over the input; cells are ``stride`` pixels wide.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Faces:
    """Detected faces by descending score, in pixels of the image."""

    boxes: np.ndarray
    """float32 ``[F, 4]``: x, y, width, height"""
    points: np.ndarray
    """float32 ``[F, 5, 2]``, in the order of ``curation.alignment``"""
    scores: np.ndarray
    """float32 ``[F]``"""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: np.ndarray | slice) -> "Faces":
        """The faces at these indices."""
        return Faces(self.boxes[which], self.points[which], self.scores[which])

    def scaled(self, factor: float) -> "Faces":
        """The same faces in an image scaled by ``factor``."""
        return Faces(self.boxes * factor, self.points * factor, self.scores)


def join(parts: list[Faces]) -> Faces:
    """All faces by descending score, without those that have non-finite values."""
    boxes, points, scores = (
        np.concatenate([getattr(part, name) for part in parts]).astype(np.float32)
        for name in ("boxes", "points", "scores")
    )
    rows = np.column_stack([boxes, points.reshape(-1, 10), scores])
    good = np.isfinite(rows).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    found = Faces(boxes[good], points[good], scores[good])
    return found.take(np.argsort(-found.scores, kind="stable"))


def cells(height: int, width: int, stride: int, anchors: int = 1) -> np.ndarray:
    """(column, row) of each cell, ``anchors`` times each, row by row: float32 ``[M, 2]``."""
    row, column = np.mgrid[: height // stride, : width // stride].astype(np.float32)
    return np.repeat(np.stack([column, row], -1).reshape(-1, 2), anchors, axis=0)


def decode_yunet(
    maps: dict[str, np.ndarray], stride: int, size: tuple[int, int], least: float
) -> Faces:
    """Faces of at least this score in YuNet's maps of one stride; ``size`` is the input's.

    ``maps``: cls and obj ``[M, 1]`` (their geometric mean is the score), bbox ``[M, 4]`` (the
    centre's offset from the cell in cells, the logarithms of width and height in cells), kps
    ``[M, 10]`` (offsets in cells). Source: OpenCV's ``face_detect.cpp``, ``postProcess``.
    """
    both = np.clip(maps["cls"][:, 0], 0, 1) * np.clip(maps["obj"][:, 0], 0, 1)
    scores = np.sqrt(both)
    found = scores >= least
    cell = cells(*size, stride)[found]
    box, points = maps["bbox"][found], maps["kps"][found]
    extent = np.exp(np.minimum(box[:, 2:], 20.0)) * stride
    corner = (cell + box[:, :2]) * stride - extent / 2
    return Faces(
        np.concatenate([corner, extent], axis=1),
        (points.reshape(-1, 5, 2) + cell[:, None]) * stride,
        scores[found],
    )


def decode_scrfd(
    maps: dict[str, np.ndarray], stride: int, size: tuple[int, int], least: float
) -> Faces:
    """Faces of at least this score in SCRFD's (and RetinaFace's) maps of one stride.

    ``maps``: cls ``[M, 1]``, bbox ``[M, 4]`` (distances from the cell's corner to left, top, right
    and bottom, in cells), kps ``[M, 10]``; M is the number of cells times that of anchors. Source:
    insightface's ``scrfd.py``, ``forward``.
    """
    scores = maps["cls"][:, 0]
    found = scores >= least
    grid = (size[0] // stride) * (size[1] // stride)
    cell = cells(*size, stride, len(scores) // grid)[found]
    box, points = maps["bbox"][found], maps["kps"][found]
    corner = (cell - box[:, :2]) * stride
    extent = (box[:, :2] + box[:, 2:]) * stride
    return Faces(
        np.concatenate([corner, extent], axis=1),
        (points.reshape(-1, 5, 2) + cell[:, None]) * stride,
        scores[found],
    )


def without_overlaps(faces: Faces, most: float) -> Faces:
    """Drop faces that share more than ``most`` of the smaller box with a better face.

    The smaller box instead of the union, so that a part of a large face found as a face is dropped.
    """
    left, top = faces.boxes[:, 0], faces.boxes[:, 1]
    right, bottom = left + faces.boxes[:, 2], top + faces.boxes[:, 3]
    areas = faces.boxes[:, 2] * faces.boxes[:, 3]
    waiting = np.arange(len(faces))
    kept = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        width = np.minimum(right[best], right[waiting]) - np.maximum(left[best], left[waiting])
        height = np.minimum(bottom[best], bottom[waiting]) - np.maximum(top[best], top[waiting])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        waiting = waiting[shared <= most * np.minimum(areas[best], areas[waiting])]
    return faces.take(np.array(kept, np.int64))
