"""Finds the images of a store or view by the words in a list of pairs.

A word is an image's path in the source (LFW's lists omit the extension), ``key:K`` with its record
key there, or its number in the store or view, from 0.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.images import check_pixels
from curation.pair_sets.lists import ENDINGS
from curation.subsets.text_lists import By, numbers_of_images

_KEY = "key:"


class StoredImages:
    """Reads and decodes, once each, the images of ``images`` that ``words`` refer to."""

    def __init__(self, images: ImageSet, words: Iterable[Path]) -> None:
        self._images = images
        self._places = _places(images, {word.as_posix() for word in words})
        self._known: dict[int, bytes | str] = {}

    def read(self, word: Path) -> bytes:
        """The file of an image; ``UserError`` if it is missing or bad."""
        name = word.as_posix()
        place = self._places.get(name)
        if place is None:
            raise UserError(f"{name[:80]!r} is not an image of {self._images.path}, {self._has()}")
        if place < 0:
            raise UserError(f"{name[:80]!r} matches several images of {self._images.path}")
        if place not in self._known:
            self._known[place] = self._read(place, name)
        found = self._known[place]
        if isinstance(found, str):
            raise UserError(found)
        return found

    def _read(self, place: int, name: str) -> bytes | str:
        try:
            data = self._images.read(place)
            check_pixels(data, f"{name} of {self._images.path}")
        except UserError as error:
            return str(error)
        return data

    def _has(self) -> str:
        """A description of the valid words, with an example."""
        numbers = f"which has 0 to {len(self._images) - 1}"
        names = self._images.store.source_names
        if names is None:
            return f"{numbers}, or by key {_KEY}{int(self._images.source_keys[0])}"
        return f"{numbers}, or by name {names[int(self._images.rows[0])]!r}"


def _places(images: ImageSet, words: set[str]) -> dict[str, int]:
    """The image of each word; -1 if ambiguous. Unknown words are omitted."""
    found = _named(images, words)
    for word in words - found.keys():
        if word.isascii() and word.isdigit() and len(word) <= 18 and int(word) < len(images):
            found[word] = int(word)
    keys = {word: word.removeprefix(_KEY) for word in words if word.startswith(_KEY)}
    keys = {word: key for word, key in keys.items() if key.isascii() and key.isdigit()}
    if keys:
        known = numbers_of_images(images, By.KEY)
        for word, key in keys.items():
            at = np.flatnonzero(known == int(key)) if len(key) <= 18 else np.empty(0, np.int64)
            if len(at):
                found[word] = int(at[0]) if len(at) == 1 else -1
    return found


def _named(images: ImageSet, words: set[str]) -> dict[str, int]:
    names = images.store.source_names
    if names is None:
        return {}
    called = {word + ending: word for word in words for ending in ("", *ENDINGS)}
    found: dict[str, int] = {}
    for place, row in enumerate(images.rows.tolist()):
        word = called.get(names[row])
        if word is not None:
            found[word] = -1 if word in found else place
    return found
