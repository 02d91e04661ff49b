"""Subsets by explicit lists of images or identities: their numbers, or the names of files."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.store import ImageSet, Parameter, Store
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


def write_keep(
    path: Path, parent: ImageSet, listed: Path, by: By, skip_missing: bool = False
) -> View:
    """The view of the images that the text file ``listed`` names; see ``By``.

    With ``skip_missing`` lines may name what ``parent`` does not have, as long as one does not.
    """
    keep, parameters = _is_listed(parent, listed, by, skip_missing)
    return write_subset(path, parent, keep, KEEP, parameters)


def write_drop(
    path: Path, parent: ImageSet, listed: Path, by: By, skip_missing: bool = False
) -> View:
    """The view of the images that the text file ``listed`` does not name; as ``write_keep``."""
    drop, parameters = _is_listed(parent, listed, by, skip_missing)
    return write_subset(path, parent, ~drop, DROP, parameters)


def _is_listed(
    parent: ImageSet, listed: Path, by: By, skip_missing: bool
) -> tuple[np.ndarray, dict[str, Parameter]]:
    """Which images are named, bool ``[N]``, and what the history says of the list."""
    parameters = list_parameters(listed, by)
    if by is By.NAME:
        chosen, missing = _are_named(parent, listed, skip_missing)
    else:
        lines = read_list(listed)
        numbers = numbers_of_images(parent, by)
        if not skip_missing:
            check_known(listed, lines, numbers, by, parent)
        named = [number for _, found in lines for number in found]
        chosen, missing = np.isin(numbers, named), int((~np.isin(named, numbers)).sum())
        if not chosen.any():
            check_known(listed, lines, numbers, by, parent)
    return chosen, parameters | ({"missing": missing} if skip_missing else {})


def _are_named(images: ImageSet, listed: Path, skip_missing: bool) -> tuple[np.ndarray, int]:
    """Which images the text file ``listed`` names, bool ``[N]``, and how many lines name none.

    A name is a path as the folder, list or archive of the source had it, or a folder of such, which
    stands for all images in it; of an archive also WebDataset's key. A line is a name, or has it
    beside a label or other columns. Raises ``UserError`` where the images have no names, and with
    the first line that names none of them.
    """
    names = images.store.source_names
    if names is None:
        raise UserError(
            f"{images.path} was made of records, whose images have no file names; list them by "
            "key, label, index or identity"
        )
    lines = [(number, _choices(text)) for number, text in text_lines(listed, "a list of names")]
    if not lines:
        raise UserError(f"{listed} is empty; expected names of images, one a line")
    wanted = {name for _, choices in lines for name in choices}
    store = images.store
    of_archives = isinstance(store, Store) and store.meta.source_kind in ("tar", "zip")
    files, folders = set[str](), set[str]()
    for row in images.rows.tolist():
        files |= wanted.intersection(_own_names(names[row], of_archives))
        folders |= wanted.intersection(_folders(names[row]))
    chosen, missing = set[str](), []
    for number, (whole, *others) in lines:
        found = [each for each in (whole, *others) if each in files]
        found += [each for each in (whole, *others[:1]) if each in folders]
        chosen.update(found[:1])
        if not found:
            missing.append((number, whole))
    if missing and not (skip_missing and chosen):
        number, name = missing[0]
        raise UserError(
            f"{listed}: line {number}: {images.path} has no image and no folder {name[:80]!r}; its "
            f"images are named like {names[images.rows[0]]!r}"
        )
    are_chosen = [
        not chosen.isdisjoint((*_own_names(names[row], of_archives), *_folders(names[row])))
        for row in images.rows.tolist()
    ]
    return np.array(are_chosen, bool), len(missing)


def _choices(text: str) -> tuple[str, ...]:
    """What a line may name: all of it, what stands before its label, the longest of its columns."""
    before = re.fullmatch(r"(.+?)[\s,;]+-?\d+\s*", text)
    columns = re.split(r"[\s,;]+", text.strip())
    choices = (text, before[1] if before else text, max(columns, key=len))
    return tuple(map(_cleaned, choices))


def _cleaned(text: str) -> str:
    """The name without what shells and Windows add."""
    name = text.strip()
    name = name if "/" in name else name.replace("\\", "/")
    return name.removeprefix("./").rstrip("/")


def _own_names(name: str, of_archives: bool) -> list[str]:
    """The path of an image, and in an archive WebDataset's key: up to the first dot of the file's
    name."""
    folder, slash, file = name.rpartition("/")
    return [name, f"{folder}{slash}{file.partition('.')[0]}"] if of_archives else [name]


def _folders(name: str) -> Iterator[str]:
    """Every folder that the path lies in."""
    while name := name.rpartition("/")[0]:
        yield name
