"""The table of faces next to a store: where each came from, and why others were left out.

``NAME.faces.tsv`` has one line per detected face and one per photograph without faces. Any
spreadsheet opens it; docs/formats.md describes the columns.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from curation.errors import UserError
from curation.files import atomic_file
from curation.photographs.faces import Fate
from curation.photographs.kept_faces import FaceFile, PhotographRow
from curation.text_files import bounded_lines, open_text

COLUMNS = (
    *("key", "photograph", "face", "fate", "note", "label"),
    *("x", "y", "width", "height", "score", "size", "yaw", "pitch", "sharpness", "points"),
)
NO_FACE, UNREADABLE = "no-face", "unreadable"
"""Fates of photographs; ``faces.Fate`` lists those of faces"""
_FATES = {each: each for each in (*get_args(Fate), NO_FACE, UNREADABLE)}
_NOTES = {NO_FACE: "no face was found"}


def write_table(path: Path, rows: Iterable[PhotographRow], names: Sequence[str]) -> Counter[str]:
    """Write the table of ``rows``, whose photographs are ``names``; returns the count per fate."""
    fates: Counter[str] = Counter()
    key = 0
    with atomic_file(path) as file:
        lines = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="", write_through=True)
        table = csv.writer(lines, delimiter="\t", lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            name = names[row.photograph]
            if not row.faces:
                fate = NO_FACE if row.reason is None else UNREADABLE
                fates[fate] += 1
                table.writerow(["", name, "", fate, row.reason or _NOTES[NO_FACE]])
            for number, face in enumerate(row.faces, 1):
                fates[face.face.fate] += 1
                table.writerow([key, name, number, *_cells(face)])
                key += 1
        lines.detach()
    return fates


def _cells(file: FaceFile) -> list[object]:
    face = file.face
    measures = (face.score, face.size, face.yaw, face.pitch, face.sharpness)
    points = " ".join(map(str, face.points))
    return [face.fate, face.note, file.label, *face.box, *measures, points]


def count_fates(path: Path) -> Counter[str]:
    """The number of lines per fate; ``UserError`` if the file is not such a table."""
    fates: Counter[str] = Counter()
    text = io.TextIOWrapper(
        open_text(path, "a table of faces"), "utf-8", "surrogateescape", newline=""
    )
    with text:
        rows = csv.reader(bounded_lines(text, path), delimiter="\t", strict=True)
        try:
            for number, cells in enumerate(rows):
                if number:
                    fates[_FATES[cells[COLUMNS.index("fate")]]] += 1
                elif tuple(cells) != COLUMNS:
                    raise UserError(f"{path} is not a table of faces; remove it")
        except (csv.Error, LookupError):
            raise UserError(f"{path} is damaged, or no table of faces; remove it") from None
    return fates
