"""Subsets by explicit lists of images or identities: their numbers, or the names of files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.store import ImageSet, Store
from curation.subsets.text_lists import (
    By,
    check_known,
    list_parameters,
    numbers_of_images,
    read_list,
)
from curation.text_files import text_lines
from curation.views import View, write_subset

KEEP = "keep"
DROP = "drop"


def write_keep(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """The view of the images that the text file ``listed`` names; see ``By``."""
    keep = _is_listed(parent, listed, by)
    return write_subset(path, parent, keep, KEEP, list_parameters(listed, by))


def write_drop(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """The view of the images that the text file ``listed`` does not name."""
    keep = ~_is_listed(parent, listed, by)
    return write_subset(path, parent, keep, DROP, list_parameters(listed, by))


def _is_listed(parent: ImageSet, listed: Path, by: By) -> np.ndarray:
    if by is By.NAME:
        return _are_named(parent, listed)
    lines = read_list(listed)
    numbers = numbers_of_images(parent, by)
    check_known(listed, lines, numbers, by, parent)
    return np.isin(numbers, [number for _, found in lines for number in found])


def _are_named(images: ImageSet, listed: Path) -> np.ndarray:
    """Which images the text file ``listed`` names, one name a line: bool ``[N]``.

    A name is a path as the folder, list or archive of the source had it, or a folder of such, which
    stands for all images in it; of an archive also WebDataset's key. Raises ``UserError`` where
    the images have no names, and with the first line that names none of them.
    """
    names = images.store.source_names
    if names is None:
        raise UserError(
            f"{images.path} was made of records, whose images have no file names; list them by "
            "key, label, index or identity"
        )
    store = images.store
    of_archives = isinstance(store, Store) and store.meta.source_kind in ("tar", "zip")
    lines: dict[str, int] = {}
    for number, text in text_lines(listed, "a list of names"):
        lines.setdefault(_cleaned(text), number)
    chosen = np.zeros(len(images), bool)
    missing = set(lines)
    for i, row in enumerate(images.rows.tolist()):
        for name in (*_with_folders(names[row]), *_keys(names[row], of_archives)):
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


def _keys(name: str, of_archives: bool) -> list[str]:
    """WebDataset's key: the name up to the first dot of the file's."""
    folder, slash, file = name.rpartition("/")
    return [f"{folder}{slash}{file.partition('.')[0]}"] if of_archives else []


def _with_folders(name: str) -> Iterator[str]:
    """The path and every folder that it lies in."""
    while name:
        yield name
        name = name.rpartition("/")[0]
