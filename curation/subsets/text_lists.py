"""Text files that list images or identities as whole numbers, one or more per line."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.image_set import ImageSet, Parameter
from curation.text_files import text_lines
from curation.text_numbers import whole


class By(StrEnum):
    """The meaning of a number in a list."""

    LABEL = "label"
    """The label in the source: all images that had it, regardless of later regrouping"""
    KEY = "key"
    """The record key in the source: one image"""
    INDEX = "index"
    """The image of the parent, counted from 0"""
    IDENTITY = "identity"
    """The identity of the parent, counted from 0"""
    NAME = "name"
    """The path of the image's file in the source, or of a folder; see ``by_list``"""


def numbers_of_images(images: ImageSet, by: By) -> np.ndarray:
    """The number of each image of ``images`` in lists: int64 ``[N]``."""
    stores = len(images.store.stores)
    if stores > 1 and by in (By.LABEL, By.KEY):
        raise UserError(
            f"{images.path} is of {stores} stores, in which a {by} may stand for different images; "
            f"list by {By.INDEX}, {By.IDENTITY} or {By.NAME}"
        )
    match by:
        case By.LABEL:
            return images.store.source_labels_of(images.rows)
        case By.KEY:
            return images.source_keys
        case By.INDEX:
            return np.arange(len(images))
        case By.IDENTITY:
            return images.labels.astype(np.int64)
        case By.NAME:
            raise UserError("names are for `curate view keep` and `curate view drop`")


class FlatList(NamedTuple):
    """The numbers of a list, int64 ``[M]``, and their line numbers."""

    numbers: np.ndarray
    lines: np.ndarray


def read_list(path: Path) -> Iterator[tuple[int, list[int]]]:
    """Yield (line, its numbers) for every line with numbers; ``#`` starts a comment.

    Numbers are separated by blanks, tabs or commas. Raises ``UserError`` with the line for anything
    else, and if the file has no numbers.
    """
    is_empty = True
    for number, line in text_lines(path, "a list of whole numbers"):
        words = line.split("#")[0].replace(",", " ").split()
        if words:
            is_empty = False
            yield number, [_number(word, path, number) for word in words]
    if is_empty:
        raise UserError(f"{path} is empty; expected whole numbers")


def flat(lines: Iterable[tuple[int, Sequence[int]]]) -> FlatList:
    """All numbers from ``read_list``, in 16 bytes each."""
    numbers, where = array("q"), array("q")
    for line, found in lines:
        numbers.extend(found)
        where.extend([line] * len(found))
    return FlatList(np.array(numbers, np.int64), np.array(where, np.int64))


def _number(word: str, path: Path, line: int) -> int:
    found = whole(word)
    if found is None:
        raise UserError(f"{path}: line {line}: {word[:40]!r} is not a whole number from 0 on")
    return found


def check_known(path: Path, listed: FlatList, known: np.ndarray, by: By, images: ImageSet) -> None:
    """Raise ``UserError`` with the first line that names something ``images`` lack."""
    missing = np.flatnonzero(~np.isin(listed.numbers, known))
    if missing.size:
        line, number = listed.lines[missing[0]], listed.numbers[missing[0]]
        raise UserError(
            f"{path}: line {line}: {images.path} has no image with the {by} {number}; the list is "
            f"read --by {by}; allowed: {', '.join(By)}; or correct the line"
        )


def list_parameters(path: Path, by: By) -> dict[str, Parameter]:
    """The history's description of a list: its name, SHA-256, and the meaning of its numbers."""
    return {"by": str(by), "list": path.name, "list_digest": file_digest(path)}
