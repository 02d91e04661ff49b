"""Images by the names of their files, in stores that were made of folders or lists."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.store import ImageSet
from curation.text_files import text_lines


def are_named(images: ImageSet, listed: Path) -> np.ndarray:
    """Which images the text file ``listed`` names, one name a line: bool ``[N]``.

    A name is a path as the folder or list of the source had it, or a folder of such, which stands
    for all images in it. Raises ``UserError`` where the images have no names, and with the first
    line that names none of them.
    """
    names = images.store.source_names
    if names is None:
        raise UserError(
            f"{images.path} was made of records, whose images have no file names; list them by "
            "key, label, index or identity"
        )
    lines: dict[str, int] = {}
    for number, text in text_lines(listed, "a list of names"):
        lines.setdefault(_cleaned(text), number)
    chosen = np.zeros(len(images), bool)
    missing = set(lines)
    for i, row in enumerate(images.rows.tolist()):
        for name in _with_folders(names[row]):
            if name in lines:
                chosen[i] = True
                missing.discard(name)
    if missing:
        name = min(missing, key=lines.__getitem__)
        raise UserError(
            f"{listed}: line {lines[name]}: {images.path} has no image and no folder "
            f"{name[:80]!r}; its images are named like {names[images.rows[0]]!r}"
        )
    if not lines:
        raise UserError(f"{listed} is empty; wanted are names of images, one a line")
    return chosen


def _cleaned(text: str) -> str:
    """The name without what shells and Windows add."""
    name = text.strip()
    name = name if "/" in name else name.replace("\\", "/")
    return name.removeprefix("./").rstrip("/")


def _with_folders(name: str) -> Iterator[str]:
    """The path and every folder that it lies in."""
    while name:
        yield name
        name = name.rpartition("/")[0]
