"""A contact sheet of the faces that a run kept and set aside, for review before training."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.alignment import ALIGNED_SIZE
from curation.contact_sheet import contact_sheet
from curation.files import atomic_file
from curation.images import decode, encode_jpeg
from curation.photographs.faces import JudgedFace
from curation.photographs.kept_faces import FaceFile, PhotographRow, read_face

if TYPE_CHECKING:
    from collections import Counter

COLUMNS = 12
MOST_KEPT, MOST_ASIDE = 120, 24
"""Maximum faces shown: kept ones, and those set aside per reason"""
_TITLES = {
    "kept": "kept",
    "small": "too small",
    "turned": "turned",
    "blurred": "blurred",
    "cut-off": "cut off",
}
_GAP, _LINE = 4, 28
_QUALITY = 88


def write_sheet(
    path: Path, folder: Path, rows: Iterable[PhotographRow], fates: "Counter[str]"
) -> None:
    """Write the sheet of the faces in ``folder``, evenly sampled from each fate."""
    shown = _choose(rows, fates)
    parts = [
        _section(folder, f"{title}: {fates[fate]:,}", shown[fate])
        for fate, title in _TITLES.items()
        if shown[fate]
    ]
    if not parts:
        return
    with atomic_file(path) as file:
        file.write(encode_jpeg(np.concatenate(parts), _QUALITY))


def _choose(rows: Iterable[PhotographRow], fates: "Counter[str]") -> dict[str, list[FaceFile]]:
    shown: dict[str, list[FaceFile]] = {fate: [] for fate in _TITLES}
    seen = dict.fromkeys(_TITLES, 0)
    for row in rows:
        for file in row.faces:
            fate = file.face.fate
            if fate not in shown:
                continue
            most = min(fates[fate], MOST_KEPT if fate == "kept" else MOST_ASIDE)
            if len(shown[fate]) * fates[fate] <= seen[fate] * most:
                shown[fate].append(file)
            seen[fate] += 1
    return shown


def _section(folder: Path, title: str, files: list[FaceFile]) -> np.ndarray:
    """A title and the faces below it, each with its flaw."""
    import cv2

    side = ALIGNED_SIZE[0]
    width = COLUMNS * (side + _GAP) + _GAP
    heading = np.full((_LINE, width, 3), 255, np.uint8)
    cv2.putText(
        heading, title, (_GAP, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA
    )
    faces = [_labelled(decode(read_face(folder, file)), file.face) for file in files]
    faces += [np.full_like(faces[0], 255)] * (COLUMNS - len(faces))
    sheet = contact_sheet(faces, COLUMNS, _GAP)
    return np.concatenate(
        [
            heading,
            cv2.copyMakeBorder(
                sheet, 0, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)
            ),
        ]
    )


def _labelled(face: np.ndarray, about: JudgedFace) -> np.ndarray:
    import cv2

    label = {
        "small": f"{about.size:.0f} px",
        "turned": f"{max(abs(about.yaw), abs(about.pitch)):.0f} degrees",
        "blurred": f"sharp {about.sharpness:.1f}",
    }.get(about.fate)
    if label is not None:
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 0), 1)):
            cv2.putText(
                face, label, (3, 107), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness, cv2.LINE_AA
            )
    return face
