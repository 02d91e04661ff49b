"""Files in an archive as images with labels: as WebDataset has them, or as a tree of folders.

In WebDataset consecutive files ``KEY.jpg`` and ``KEY.cls`` (``.json``, ``.txt``) are one sample;
KEY ends at the first dot of the file's name. Where the first sample in a folder has no file with a
label, the folder that an image lies in is its identity. A label without an image beside it is bad.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from curation.images import MAX_FILE_BYTES
from curation.json_text import parse_json
from curation.labels import UNLABELLED
from curation.sources.entries import FolderLabels, ImageEntry, LabelNumbers, whole_label
from curation.sources.folders import LOOKS_LIKE_IMAGES
from curation.text_files import decoded

LABELS = ("cls", "json", "txt", "text", "label")
_KEYS = ("label", "cls", "class", "identity", "target")
"""Of a JSON object, the one that has the label; the first that is there"""
_IMAGES = frozenset(suffix[1:] for suffix in LOOKS_LIKE_IMAGES)
IMAGE, LABEL = "image", "label"
MOST_BYTES = {IMAGE: MAX_FILE_BYTES, LABEL: 1 << 16}
"""Of a file with this role"""
_MOST_IN_SAMPLE = 16
_ALONE = (
    "its sample has no image: the files of a WebDataset sample follow each other; write the "
    "archive again, sorted by name (tar --sort=name)"
)
_IN_TREE = (
    "it is a label, but the first image of a folder has none beside it, so that folders are "
    "identities here; give each image a label (-1 for none), or none"
)


class ArchiveFile(NamedTuple):
    """A file in an archive that is an image or may have a label, by its ``role``."""

    name: str
    key: str
    """Of its sample"""
    role: str
    offset: int
    payload: bytes
    reason: str = ""


def key_and_role(name: str) -> tuple[str, str | None]:
    """The key of a file's sample, and whether it is an image (of a kind that can be taken or not),
    may have a label, or is neither."""
    stem, _, ending = name.rpartition(".")
    role = _role(ending)
    if stem and "." not in stem:
        return stem, role
    begin = name.rfind("/") + 1
    is_hidden = role == IMAGE and name.startswith(".", begin)
    return name[: name.find(".", begin)], None if is_hidden else role


@lru_cache(1 << 10)
def _role(ending: str) -> str | None:
    ending = ending.lower()
    return IMAGE if ending in _IMAGES else LABEL if ending in LABELS else None


class ArchiveError(ValueError):
    """The archive is damaged at byte ``offset``; nothing behind it can be read."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


class Samples:
    """Gathers the files of archives, in their order, into entries."""

    def __init__(self) -> None:
        self._folders, self._numbers = FolderLabels(), LabelNumbers()
        self._has_labels: bool | None = None
        """Whether labels are files; not known before an image that has one or lies in a folder"""

    def entries(self, files: Iterable[ArchiveFile], first: int) -> Iterator[ImageEntry]:
        """The images of an archive with their labels, their places counted from ``first``.

        Where ``files`` ends with an ``ArchiveError``, the last entry says so.
        """
        key: str | None = None
        images: list[ArchiveFile] = []
        others: list[ArchiveFile] = []
        damage: list[ImageEntry] = []
        try:
            for file in files:
                if file.key != key or self._has_labels is False:
                    yield from self._sample(images, others, first)
                    key, images, others = file.key, [], []
                its = images if file.role == IMAGE else others
                if len(its) < _MOST_IN_SAMPLE:  # with more it is refused for its images
                    its.append(file)
        except ArchiveError as error:
            damage.append(ImageEntry("", UNLABELLED, first + error.offset, b"", str(error)))
        if not damage or self._is_whole(images, others):
            yield from self._sample(images, others, first)
        yield from damage

    def _is_whole(self, images: list[ArchiveFile], others: list[ArchiveFile]) -> bool:
        """Whether the sample at which an archive was cut off has all that it needs."""
        return bool(images and (others or not self._has_labels))

    def _sample(
        self, images: list[ArchiveFile], others: list[ArchiveFile], first: int
    ) -> Iterable[ImageEntry]:
        if self._has_labels is None and images and (others or "/" in images[0].name):
            self._has_labels = bool(others)
        if not images:
            wrong = next(filter(_says_label, others), None)
            reason = _IN_TREE if self._has_labels is False else _ALONE
            return () if wrong is None else (_bad(wrong, first, reason),)
        if not self._has_labels:
            return [_entry(image, self._folders.of(image.name), first) for image in images]
        if len(images) == 1:
            return (self._labelled(images[0], others, first),)
        return (_bad(images[0], first, f"its sample has {len(images)} images"),)

    def _labelled(self, image: ArchiveFile, others: list[ArchiveFile], first: int) -> ImageEntry:
        by_rank = others
        if len(others) > 1:
            by_rank = sorted(others, key=lambda file: LABELS.index(extension(file.name)))
        for file in by_rank:
            try:
                label = _label(file)
                if label is not None:
                    return _entry(image, self._numbers.of(label), first)
            except ValueError as error:
                return _bad(image, first, f"{file.name}: {error}")
        return _entry(image, UNLABELLED, first)


def extension(name: str) -> str:
    """What the name ends with, without the dot, in small letters."""
    return name[name.rfind(".") + 1 :].lower()


def _entry(image: ArchiveFile, label: int, first: int) -> ImageEntry:
    return ImageEntry(image.name, label, first + image.offset, image.payload, image.reason)


def _bad(file: ArchiveFile, first: int, reason: str) -> ImageEntry:
    return ImageEntry(file.name, UNLABELLED, first + file.offset, b"", file.reason or reason)


def _says_label(file: ArchiveFile) -> bool:
    """Whether a file that stands alone is a label; a text or JSON may be anything."""
    if extension(file.name) == "cls":
        return True
    try:
        label = _label(file)
        return label is not None and whole_label(label) >= UNLABELLED
    except ValueError:
        return False


def _label(file: ArchiveFile) -> object:
    """The label that a file says, a number or a name; None where it has none, ``ValueError`` where
    it cannot be read."""
    if file.payload.isdigit() and len(file.payload) < 16:
        return int(file.payload)
    if file.reason:
        raise ValueError(file.reason)
    text = decoded(file.payload)
    kind = extension(file.name)
    if kind == "json":
        value = parse_json(text.encode())
        if isinstance(value, dict):
            value = next((value[key] for key in _KEYS if key in value), None)
        return value
    if kind in ("txt", "text") and not re.fullmatch(r"\s*-?\d+(\.0*)?\s*", text, re.ASCII):
        return None  # a caption
    return text.strip()
