"""Finds images by the names that lists give them."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from curation.image_set import ImageSet
from curation.name_index import NameIndex
from curation.sources.lists import is_heading
from curation.store import Store
from curation.text_files import unquoted


class ImageNames:
    """The images of a set by their paths in the source.

    The folder that contains all images may be missing, as in lists for an archive. Where no other
    image has that name, the suffix (VGGFace2) or all folders (CelebA, FaceScrub) may be too.
    For archives, the key of WebDataset is a name too. Each index takes 16 bytes for each image; all
    but the first are made when a list needs them.
    """

    def __init__(self, images: ImageSet, names: Sequence[str]) -> None:
        """``names`` of all ``images`` in order."""
        store = images.store
        self._names = names
        self._in_archives = isinstance(store, Store) and store.meta.source_kind in ("tar", "zip")
        self._paths = NameIndex(names)
        self._top = _common_folder(names)

    def find(self, name: str) -> np.ndarray:
        """The images with this name, int64 ``[n]``; none if it is unknown or ambiguous."""
        found = self.at_path(name)
        return found if found.size else self.called(name)

    def at_path(self, name: str) -> np.ndarray:
        """The images with this path or key."""
        for index in (self._paths, *([self._keys] if self._in_archives else [])):
            for path in self.paths_of(name):
                found = index.positions[index.span(path)]
                if found.size:
                    return found
        return self._paths.positions[:0]

    def called(self, name: str) -> np.ndarray:
        """The image whose path without suffix, or whose file name, this is."""
        for index, names in ((self._stems, self.paths_of(name)), (self._files, (name,))):
            for each in filter(None, names):
                found = index.positions[index.span(each)]
                if found.size == 1:
                    return found
        return self._paths.positions[:0]

    def paths_of(self, name: str) -> tuple[str, ...]:
        """The name, and the name in the folder that contains all images."""
        return (name, self._top + name) if self._top else (name,)

    @cached_property
    def _keys(self) -> NameIndex:
        """WebDataset's keys: up to the first dot of the file's name."""
        return self._index(lambda folder, file: folder + file.partition(".")[0])

    @cached_property
    def _stems(self) -> NameIndex:
        return self._index(lambda folder, file: folder + file.rpartition(".")[0])

    @cached_property
    def _files(self) -> NameIndex:
        return self._index(lambda _, file: file)

    def _index(self, name_of: Callable[[str, str], str]) -> NameIndex:
        split = (name.rpartition("/") for name in self._names)
        return NameIndex(name_of(folder + slash, file) for folder, slash, file in split)


def cleaned(text: str) -> str:
    """The name without additions of shells, tables and Windows."""
    name = unquoted(text.strip())
    name = name if "/" in name else name.replace("\\", "/")
    return name.removeprefix("./").rstrip("/")


def names_nothing(line: int, text: str) -> bool:
    """Whether a line that names no image need not: a comment, or the heading of a table."""
    if text.lstrip().startswith("#"):
        return True
    return line == 1 and any(mark in text for mark in "\t,;") and is_heading(text)


def _common_folder(names: Sequence[str]) -> str:
    """The folder that contains all images, with its slash; "" if there is none."""
    if not names:
        return ""
    first, last = min(names), max(names)
    common = 0
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        common += 1
    return first[: first.rfind("/", 0, common) + 1]
