"""Subsets by explicit lists of images or identities: their numbers, or the names of files."""

import re
import string
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet, Parameter
from curation.name_index import NameIndex
from curation.subsets.image_names import ImageNames, cleaned, names_nothing
from curation.subsets.text_lists import By, ListedImages, list_parameters, read_list
from curation.text_files import text_lines
from curation.text_numbers import signed
from curation.view_writing import write_subset
from curation.views import View

_BETWEEN = string.whitespace + ",;"
"""Separators between the columns of a list of names"""
_MOST_COLUMNS = 4
KEEP = "keep"
DROP = "drop"


def write_keep(
    path: Path, parent: ImageSet, listed: Path, by: By, skip_missing: bool = False
) -> View:
    """Write the view of the images that the text file ``listed`` names; see ``By``.

    With ``skip_missing``, entries that ``parent`` lacks are ignored unless all are missing.
    """
    keep, parameters = _is_listed(parent, listed, by, skip_missing)
    return write_subset(path, parent, keep, KEEP, parameters)


def write_drop(
    path: Path, parent: ImageSet, listed: Path, by: By, skip_missing: bool = False
) -> View:
    """Write the view of the images that ``listed`` does not name; see ``write_keep``."""
    drop, parameters = _is_listed(parent, listed, by, skip_missing)
    return write_subset(path, parent, ~drop, DROP, parameters)


def _is_listed(
    parent: ImageSet, listed: Path, by: By, skip_missing: bool
) -> tuple[np.ndarray, dict[str, Parameter]]:
    """The named images, bool ``[N]``, and the parameters for the history."""
    if by is By.NAME:
        chosen, missing = _are_named(parent, listed, skip_missing)
    else:
        chosen, missing = _are_numbered(parent, listed, by, skip_missing)
    parameters = list_parameters(listed, by)  # reads all of the list
    return chosen, parameters | ({"missing": missing} if skip_missing else {})


def _are_numbered(
    images: ImageSet, listed: Path, by: By, skip_missing: bool
) -> tuple[np.ndarray, int]:
    """The images whose numbers are in ``listed``, bool ``[N]``, and the count of unknown numbers.

    Raises ``UserError`` with the first line that has an unknown one.
    """
    found = ListedImages(listed, images, by)
    missing, first = 0, None
    for line, numbers in read_list(listed):
        for number in numbers:
            if not found.find(number).size:
                missing, first = missing + 1, first or found.unknown(line, number)
    if first is not None and not (skip_missing and found.are_listed.any()):
        raise first
    return found.are_listed, missing


def _are_named(images: ImageSet, listed: Path, skip_missing: bool) -> tuple[np.ndarray, int]:
    """The images that the text file ``listed`` names, bool ``[N]``, and the number of unknown
    names.

    A name is that of an image, see ``ImageNames``, or of a folder, which selects all images in it.
    A line is a name, or has a name among labels or other columns. Raises ``UserError`` if the
    images have no names, and with the first line that names none of them.
    """
    names = images.store.source_names
    if names is None:
        raise UserError(
            f"{images.path} was made from records, whose images have no file names; list them by "
            "key, label, index or identity"
        )
    named = _NamedImages(images, names.take(images.rows))
    missing, first, found = 0, (0, ""), 0
    for number, text in text_lines(listed, "a list of names"):
        choices = _choices(text)
        if named.choose(choices):
            found += 1
        elif not names_nothing(number, text):
            first = first if missing else (number, choices[0][:80])
            missing += 1
    if not missing + found:
        raise UserError(f"{listed} is empty; expected names of images, one per line")
    if missing and not (skip_missing and found):
        raise UserError(
            f"{listed}: line {first[0]}: {images.path} has no image and no folder {first[1]!r}; "
            f"its images are named like {names[images.rows[0]]!r}"
        )
    return named.chosen(), missing


class _NamedImages:
    """Images indexed by their names and folders, which lines select.

    A list of millions of lines takes no memory beyond that of the index.
    """

    def __init__(self, images: ImageSet, names: Sequence[str]) -> None:
        inside = array("q")
        self._files = ImageNames(images, names)
        self._folders = NameIndex(_all_folders(names, inside))
        self._inside = np.array(inside, np.int64)
        self._chosen = np.zeros(len(names), bool)
        self._are_folders = np.zeros(len(inside), bool)

    def choose(self, choices: tuple[str, ...]) -> bool:
        """Select the first of ``choices`` that exists: a path, a folder, or an image called so.

        Only the first two choices are matched as folders, not columns. False if none exists.
        """
        return (
            self._select(self._files.at_path, choices)
            or self._select_folder(choices[:2])
            or self._select(self._files.called, choices)
        )

    def _select(self, find: Callable[[str], np.ndarray], choices: Sequence[str]) -> bool:
        found = next(filter(np.size, map(find, choices)), None)
        if found is not None:
            self._chosen[found] = True
        return found is not None

    def _select_folder(self, choices: Sequence[str]) -> bool:
        paths = (path for name in filter(None, choices) for path in self._files.paths_of(name))
        spans = map(self._folders.span, paths)
        span = next((span for span in spans if span.start < span.stop), None)
        if span is not None:
            self._are_folders[span] = True
        return span is not None

    def chosen(self) -> np.ndarray:
        """The selected images, bool ``[N]``."""
        chosen = self._chosen.copy()
        chosen[self._inside[self._folders.positions[self._are_folders]]] = True
        return chosen


def _all_folders(names: Sequence[str], inside: "array[int]") -> Iterator[str]:
    """Every folder of every name; its number is appended to ``inside``."""
    for number, name in enumerate(names):
        for folder in _folders(name):
            inside.append(number)
            yield folder


def _choices(text: str) -> tuple[str, ...]:
    """The possible names in a line: the whole line, the text before a label, the longest column,
    and other columns that look like a path.
    """
    columns = re.split(r"[\s,;]+", text.strip())
    before = text
    if len(columns) > 1 and signed(columns[-1]) is not None:
        before = text.rstrip().removesuffix(columns[-1]).rstrip(_BETWEEN)
    longest, *others = sorted(columns, key=len, reverse=True)
    paths = [column for column in others if "/" in column or "." in column][:_MOST_COLUMNS]
    return tuple(map(cleaned, (text, before, longest, *paths)))


def _folders(name: str) -> Iterator[str]:
    """Every folder that contains the path."""
    while name := name.rpartition("/")[0]:
        yield name
