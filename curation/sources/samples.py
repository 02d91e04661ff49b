"""Files in an archive as images with labels: as WebDataset has them, or as a tree of folders.

In WebDataset consecutive files ``KEY.jpg`` and ``KEY.cls`` (``.json``, ``.txt``) are one sample;
KEY ends at the first dot of the file's name. Where the first sample has no file with a label, the
folder that an image lies in is its identity.
"""

import re
from typing import NamedTuple

from curation.json_text import parse_json
from curation.labels import UNLABELLED
from curation.sources.entries import FolderLabels, ImageEntry, whole_label
from curation.sources.folders import LOOKS_LIKE_IMAGES

LABELS = ("cls", "json", "txt", "text", "label")
_KEYS = ("label", "cls", "class", "identity", "target")
"""Of a JSON object, the one that has the label; the first that is there"""
_IMAGES = frozenset(suffix[1:] for suffix in LOOKS_LIKE_IMAGES)
MOST_LABEL_BYTES = 1 << 16
_MOST_IN_SAMPLE = 16


class ArchiveFile(NamedTuple):
    """A file in an archive that is an image or may have a label."""

    name: str
    offset: int
    payload: bytes
    reason: str = ""
    is_image: bool = True


def extension(name: str) -> str:
    """What the name ends with, without the dot, in small letters."""
    return name[name.rfind(".") + 1 :].lower()


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, of a kind that can be taken or not."""
    return extension(name) in _IMAGES and not name.rpartition("/")[2].startswith(".")


def is_label(name: str) -> bool:
    """Whether a file may have a label."""
    return extension(name) in LABELS


class Samples:
    """Gathers the files of an archive, in their order, into entries."""

    def __init__(self) -> None:
        self._folders = FolderLabels()
        self._has_labels: bool | None = None
        """Whether labels are files; known after the first sample with an image"""
        self._key = ""
        self._files: list[ArchiveFile] = []

    def add(self, file: ArchiveFile) -> list[ImageEntry]:
        """Take a file; the entries that are whole by that."""
        whole: list[ImageEntry] = []
        name = file.name
        key = name[: name.find(".", name.rfind("/") + 1)]
        if key != self._key or self._has_labels is False:
            whole = self.flush()
            self._key = key
        if len(self._files) < _MOST_IN_SAMPLE:  # one with more is refused for the images it has
            self._files.append(file)
        return whole

    def flush(self) -> list[ImageEntry]:
        """The entries of the sample that is being gathered; it is over."""
        files, self._files = self._files, []
        images = [file for file in files if file.is_image]
        others = [file for file in files if not file.is_image]
        if self._has_labels is None and images:
            self._has_labels = bool(others)
        if not self._has_labels:
            return [_entry(image, self._folders.of(image.name)) for image in images]
        if len(images) == 1:
            return [_labelled(images[0], others)]
        cls = next((file for file in others if extension(file.name) == "cls"), None)
        wrong = images[0] if images else cls
        if wrong is None:
            return []
        how = f"{len(images)} images" if images else "no image"
        return [ImageEntry(wrong.name, UNLABELLED, wrong.offset, b"", f"its sample has {how}")]


def _entry(image: ArchiveFile, label: int) -> ImageEntry:
    return ImageEntry(image.name, label, image.offset, image.payload, image.reason)


def _labelled(image: ArchiveFile, others: list[ArchiveFile]) -> ImageEntry:
    by_rank = others
    if len(others) > 1:
        by_rank = sorted(others, key=lambda file: LABELS.index(extension(file.name)))
    try:
        label = next((found for file in by_rank if (found := _label(file)) is not None), UNLABELLED)
    except ValueError as error:
        return ImageEntry(image.name, UNLABELLED, image.offset, b"", image.reason or str(error))
    return _entry(image, label)


def _label(file: ArchiveFile) -> int | None:
    """The label that a file says; None where it has none, ``ValueError`` where it is none."""
    if file.reason:
        raise ValueError(f"{file.name}: {file.reason}")
    kind = extension(file.name)
    try:
        if kind == "json":
            value = parse_json(file.payload)
            if isinstance(value, dict):
                value = next((value[key] for key in _KEYS if key in value), None)
            return None if value is None else whole_label(value)
        if kind in ("txt", "text") and not re.fullmatch(rb"\s*-?\d+(\.0*)?\s*", file.payload):
            return None  # a caption
        return whole_label(file.payload)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None
