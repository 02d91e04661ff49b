"""Drawings as PNG files in light colours at twice their size, for slides and mails."""

import numpy as np

from curation.printable import printable
from distill.charts.chart import Area, Drawing, Lettering, Line
from distill.charts.palette import CARD, CURVE_COLOURS, INK, LINE, MUTED

_SCALE = 2
_GAP = 4.0
"""Pixels between dashes"""
_SHIFT = 4
"""Fixed-point bits of OpenCV's coordinates, a sixteenth of a pixel."""
_WIDTHS = {"grid": 1, "axis": 1, "edge": 1, "curve": 4, "whisker": 6}


def png(drawing: Drawing) -> bytes:
    """The drawing as a file; non-Latin characters become question marks."""
    import cv2

    canvas = np.full((_SCALE * drawing.height, _SCALE * drawing.width, 3), 255, np.uint8)
    canvas[:] = _bgr(CARD[0])
    for mark in drawing.marks:
        if isinstance(mark, Lettering):
            _write(canvas, mark)
            continue
        over = canvas.copy()
        if isinstance(mark, Area):
            cv2.fillPoly(over, [_fixed(mark.points)], _colour(mark.colour), cv2.LINE_AA, _SHIFT)
            share = 0.3
        else:
            _stroke(over, mark)
            share = 0.5 if mark.look == "whisker" else 1.0
        cv2.addWeighted(over, share, canvas, 1 - share, 0, dst=canvas)
    _, data = cv2.imencode(".png", canvas)
    return data.tobytes()


def _stroke(canvas: np.ndarray, line: Line) -> None:
    import cv2

    plain = {"grid": LINE, "edge": INK}
    colour = _bgr(plain.get(line.look, MUTED)[0]) if line.colour is None else _colour(line.colour)
    for part in _dashes(line.points, 6.0 * line.dash):
        cv2.polylines(
            canvas, [_fixed(part)], False, colour, _WIDTHS[line.look], cv2.LINE_AA, _SHIFT
        )


def _dashes(points: np.ndarray, length: float) -> list[np.ndarray]:
    """The line in dashes of ``length``; unchanged if that is 0."""
    if not length or len(points) < 2:
        return [points]
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    pieces = []
    for start in np.arange(0, along[-1], length + _GAP):
        inside = (along > start) & (along < start + length)
        places = np.concatenate([[start], along[inside], [min(start + length, along[-1])]])
        pieces.append(
            np.stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)], axis=1)
        )
    return pieces


def _write(canvas: np.ndarray, words: Lettering) -> None:
    import cv2

    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42 * _SCALE
    text = printable(words.text).encode("ascii", "replace").decode()
    (width, _), _ = cv2.getTextSize(text, font, size, 1)
    left = words.x * _SCALE - {"start": 0, "middle": width / 2, "end": width}[words.anchor]
    place = round(left), round(words.y * _SCALE)
    cv2.putText(canvas, text, place, font, size, _bgr(INK[0]), 1, cv2.LINE_AA)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * (_SCALE << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)


def _colour(number: int) -> tuple[int, ...]:
    return _bgr(CURVE_COLOURS[number][0])


def _bgr(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:])[::-1])
