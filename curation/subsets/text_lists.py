"""Text files that list images or identities as whole numbers, one or more per line."""

import re
from array import array
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.image_set import ImageSet, Parameter
from curation.name_index import NameIndex
from curation.text_files import text_lines
from curation.text_numbers import whole

_WORD = re.compile(r"[^\s,]+")


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
            f"{images.path} is of {stores} stores, in which one {by} can mean different images; "
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


def read_list(path: Path) -> Iterator[tuple[int, "array[int]"]]:
    """Yield (line, its numbers) for every line with numbers; ``#`` starts a comment.

    Numbers are separated by blanks, tabs or commas. Raises ``UserError`` with the line for anything
    else, and if the file has no numbers.
    """
    is_empty = True
    for number, line in text_lines(path, "a list of whole numbers"):
        words = _WORD.finditer(line.split("#", 1)[0])
        found = array("q", (_number(word[0], path, number) for word in words))
        if found:
            is_empty = False
            yield number, found
    if is_empty:
        raise UserError(f"{path} is empty; expected whole numbers")


def _number(word: str, path: Path, line: int) -> int:
    found = whole(word)
    if found is None:
        raise UserError(f"{path}: line {line}: {word[:40]!r} is not a whole number of at least 0")
    return found


class ListedImages:
    """The images of ``images`` that a list names by number.

    Memory depends on the number of images, not on the length of the list.
    """

    def __init__(self, path: Path, images: ImageSet, by: By) -> None:
        self._path, self._images, self._by = path, images, by
        self._index = NameIndex(numbers_of_images(images, by))
        self._are_listed = np.zeros(len(images), bool)  # in the order of the index

    @property
    def are_listed(self) -> np.ndarray:
        """The images that were found so far: bool ``[N]``."""
        found = np.empty_like(self._are_listed)
        found[self._index.positions] = self._are_listed
        return found

    def find(self, number: int) -> np.ndarray:
        """The images with this number, int64 ``[n]``; none if there is no such image."""
        span = self._index.span(number)
        self._are_listed[span] = True
        return self._index.positions[span]

    def unknown(self, line: int, number: int) -> UserError:
        """The error for a line with a number that no image has."""
        return UserError(
            f"{self._path}: line {line}: {self._images.path} has no image with the {self._by} "
            f"{number}; the list is read --by {self._by}; allowed: {', '.join(By)}; or correct the "
            "line"
        )


def list_parameters(path: Path, by: By) -> dict[str, Parameter]:
    """The history's description of a list: its name, SHA-256, and the meaning of its numbers."""
    return {"by": str(by), "list": path.name, "list_digest": file_digest(path)}
