"""Text files that name images or identities: whole numbers, one or several a line."""

from enum import StrEnum
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.store import ImageSet, Parameter
from curation.text_files import text_lines


class By(StrEnum):
    """What a number in a list means."""

    LABEL = "label"
    """The label in the source: all images that had it, however identities were regrouped since"""
    KEY = "key"
    """The record key in the source: one image"""
    INDEX = "index"
    """The image of the parent, counted from 0"""
    IDENTITY = "identity"
    """The identity of the parent, counted from 0"""
    NAME = "name"
    """The path of the image's file in the source, or a folder of it; see ``by_list``"""


def numbers_of_images(images: ImageSet, by: By) -> np.ndarray:
    """What each image of ``images`` is called in a list: int64 ``[N]``."""
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


def read_list(path: Path) -> list[tuple[int, list[int]]]:
    """(line, its numbers) of every line that has any; ``#`` begins a remark.

    Numbers are separated by blanks, tabs or commas. Raises ``UserError`` with the line where
    something else stands there, or where the file holds no number.
    """
    lines = []
    for number, line in text_lines(path, "a list of whole numbers"):
        words = line.split("#")[0].replace(",", " ").split()
        if words:
            lines.append((number, [_number(word, path, number) for word in words]))
    if not lines:
        raise UserError(f"{path} is empty; expected whole numbers")
    return lines


def _number(word: str, path: Path, line: int) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise UserError(f"{path}: line {line}: {word[:40]!r} is not a whole number from 0 on")
    return int(word)


def check_known(
    path: Path, lines: list[tuple[int, list[int]]], known: np.ndarray, by: By, images: ImageSet
) -> None:
    """Raises ``UserError`` with the first line that names what ``images`` do not have."""
    flat = np.array([number for _, numbers in lines for number in numbers], np.int64)
    where = np.repeat([line for line, _ in lines], [len(numbers) for _, numbers in lines])
    missing = np.flatnonzero(~np.isin(flat, known))
    if missing.size:
        first = missing[0]
        raise UserError(
            f"{path}: line {where[first]}: {images.path} has no image with the {by} {flat[first]}; "
            f"the list is read --by {by}; allowed: {', '.join(By)}; or correct the line"
        )


def list_parameters(path: Path, by: By) -> dict[str, Parameter]:
    """What the history says about a list: its name, SHA-256, and what its numbers mean."""
    return {"by": str(by), "list": path.name, "list_digest": file_digest(path)}
