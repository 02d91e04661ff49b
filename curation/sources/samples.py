"""Groups the files of an archive into labelled images: WebDataset samples or a folder tree.

In WebDataset, consecutive files ``KEY.jpg`` and ``KEY.cls`` (``.json``, ``.txt``) form a sample;
KEY ends at the first dot of the file name. If the first sample in a folder has no label file, the
folder of each image is its identity. A label file without an image is a bad record. A file with
the name of an earlier file in the same archive is also a bad record.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from curation.images import MAX_FILE_BYTES
from curation.json_text import parse_json
from curation.labels import UNLABELLED
from curation.sources.entries import ImageEntry, LabelNumbers, whole_label
from curation.sources.folders import LOOKS_LIKE_IMAGES, SYSTEM_FOLDERS
from curation.sources.label_choice import (
    USUAL,
    FolderLabels,
    LabelChoice,
    no_label,
    single,
    usual_key,
)
from curation.text_files import decoded

LABELS = ("cls", "json", "txt", "text", "label")
_IMAGES = frozenset(suffix[1:] for suffix in LOOKS_LIKE_IMAGES)
IMAGE, LABEL = "image", "label"
MOST_BYTES = {IMAGE: MAX_FILE_BYTES, LABEL: 1 << 16}
"""Maximum file size by role"""
_MOST_IGNORED = 8
_ARCHIVES = frozenset({"zip", "tar", "gz", "tgz", "7z", "rar"})
_SUFFIX = re.compile(r"\w{1,16}")
_MOST_IN_SAMPLE = 16
"""Files of a role; a larger group of images is a tree, or is refused"""
_ALONE = (
    "its sample has no image: the files of a WebDataset sample must be adjacent; write the "
    "archive again, sorted by name (tar --sort=name)"
)
_IN_TREE = (
    "it is a label, but the first image of the archive has none, so folders are the identities; "
    "label all images (-1: no identity), or none"
)
_SHARED = "its sample has {} images: files with one name up to the first dot form a sample"
_TWICE = "the archive has an earlier file of this name"


@dataclass(slots=True)
class ArchiveFile:
    """A file in an archive that is an image or may hold a label; see ``role``."""

    name: str
    key: str
    """The key of its sample"""
    role: str
    offset: int
    payload: bytes
    reason: str = ""


class Roles:
    """Which files of archives are images (of a supported format or not) and possible labels."""

    def __init__(self, choice: LabelChoice = USUAL) -> None:
        self._wanted = choice.key.lower()
        self.ignored: set[str] = set()
        """The first suffixes of files that are neither"""

    def of(self, name: str) -> tuple[str, str | None]:
        """The key of a file's sample, and the file's role; None if it is ignored."""
        stem, _, ending = name.rpartition(".")
        role = _role(ending)
        if role is None and stem:
            role = self._unusual(ending.lower())
        elif any(folder in name for folder in SYSTEM_FOLDERS) and _is_of_system(name):
            role = None
        if stem and "." not in stem:
            return stem, role
        begin = name.rfind("/") + 1
        is_hidden = role == IMAGE and name.startswith(".", begin)
        return name[: name.find(".", begin)], None if is_hidden else role

    def _unusual(self, ending: str) -> str | None:
        if self._wanted and ending == self._wanted:
            return LABEL
        if len(self.ignored) < _MOST_IGNORED and _SUFFIX.fullmatch(ending):
            self.ignored.add(ending)
        return None


def _is_of_system(name: str) -> bool:
    return not set(SYSTEM_FOLDERS).isdisjoint(name.split("/")[:-1])


@lru_cache(1 << 10)
def _role(ending: str) -> str | None:
    ending = ending.lower()
    return IMAGE if ending in _IMAGES else LABEL if ending in LABELS else None


class ArchiveError(ValueError):
    """The archive is damaged at byte ``offset``; nothing after it can be read."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


class Samples:
    """Groups the files of archives, in order, into entries."""

    def __init__(self, choice: LabelChoice = USUAL) -> None:
        self._choice = choice
        self.roles = Roles(choice)
        self._folders, self._numbers = FolderLabels(choice.folder), LabelNumbers()
        self._keys: list[str] = []
        """The keys of the first JSON object without a label"""
        self._has_labels: bool | None = False if choice.folder else None
        """Whether labels are files; None until an image with a label file or in a folder is seen"""

    def entries(self, files: Iterable[ArchiveFile], first: int) -> Iterator[ImageEntry]:
        """The labelled images of an archive, their positions counted from ``first``.

        If ``files`` raises ``ArchiveError``, the last entry reports it.
        """
        key: str | None = None
        images: list[ArchiveFile] = []
        others: list[ArchiveFile] = []
        repeated: list[ArchiveFile] = []
        damage: list[ImageEntry] = []
        is_crowded = False
        seen: set[int] = set()  # hashes take less memory than names
        count = 0
        try:
            for file in files:
                if file.key != key or self._has_labels is False:
                    if self._has_labels and len(images) == 1 and not (repeated or is_crowded):
                        yield self._labelled(images[0], others, first)  # the usual case
                    else:
                        sample = self._sample(images, others, first, is_crowded)
                        yield from _in_order(sample, repeated, first)
                        repeated, is_crowded = [], False
                    key, images, others = file.key, [], []
                elif len(images) == _MOST_IN_SAMPLE or len(repeated) == _MOST_IN_SAMPLE:
                    if self._has_labels is None:
                        self._has_labels = bool(others)
                    sample = self._sample(images, others, first, is_crowded=True)
                    yield from _in_order(sample, repeated, first)
                    images, others, repeated, is_crowded = [], [], [], True
                its = images if file.role == IMAGE else others
                seen.add(hash(file.name))
                if len(seen) == count:
                    its = repeated
                count = len(seen)
                if its is not others or len(others) < _MOST_IN_SAMPLE:
                    its.append(file)
        except ArchiveError as error:
            damage.append(ImageEntry("", UNLABELLED, first + error.offset, b"", str(error)))
        is_whole = not damage or self._is_whole(images, others)
        sample = self._sample(images, others, first, is_crowded) if is_whole else ()
        yield from _in_order(sample, repeated, first)
        yield from damage

    def other_content(self) -> str:
        """What is there instead of images, for the end of a message; "" if nothing is."""
        if not self.roles.ignored:
            return ""
        inner = " (unpack it, and give the archives in it)"
        is_packed = not self.roles.ignored.isdisjoint(_ARCHIVES)
        suffixes = ", ".join(f".{suffix}" for suffix in sorted(self.roles.ignored))
        return f", but files {suffixes}{inner if is_packed else ''}"

    def remarks(self, identities: int) -> Iterator[str]:
        """Doubts about the labels of the archives that were read."""
        yield from self._folders.remarks()
        if not identities and self._keys:
            yield no_label("JSON key", self._keys, self._choice)
        elif identities <= 1 and not self._has_labels and self.roles.ignored:
            suffixes = sorted(self.roles.ignored)
            yield (
                f"files with the suffixes {', '.join(suffixes)} were not read; if one of them has "
                f"the label of its image, give `--label-key {suffixes[0]}`"
            )

    def _is_whole(self, images: list[ArchiveFile], others: list[ArchiveFile]) -> bool:
        """Whether the sample at the point of truncation is complete."""
        return bool(images and (others or not self._has_labels))

    def _sample(
        self, images: list[ArchiveFile], others: list[ArchiveFile], first: int, is_crowded: bool
    ) -> Iterable[ImageEntry]:
        """The entries of a sample, or of a part of one with too many files (``is_crowded``)."""
        if self._has_labels is None and images and (others or "/" in images[0].name):
            self._has_labels = bool(others)
        if not images:
            wrong = next(filter(_has_label, others), None)
            reason = _IN_TREE if self._has_labels is False else _ALONE
            is_reported = is_crowded or bool(self._choice.folder)
            return () if wrong is None or is_reported else (_bad(wrong, first, reason),)
        if not self._has_labels:
            return [_entry(image, self._folders.of(image.name), first) for image in images]
        if len(images) == 1 and not is_crowded:
            return (self._labelled(images[0], others, first),)
        reason = _SHARED.format("many" if is_crowded else len(images))
        return [_bad(image, first, reason) for image in images]

    def _labelled(self, image: ArchiveFile, others: list[ArchiveFile], first: int) -> ImageEntry:
        if len(others) > 1:
            others = sorted(others, key=self._preference)
        for file in others:
            try:
                label = self._label(file)
                if label is not None:
                    return _entry(image, self._numbers.of(label), first)
            except ValueError as error:
                return _bad(image, first, f"{file.name}: {error}")
        return _entry(image, UNLABELLED, first)

    def _preference(self, file: ArchiveFile) -> int:
        suffix = extension(file.name)
        return LABELS.index(suffix) if suffix in LABELS else -1

    def _label(self, file: ArchiveFile) -> object:
        """The label in a file, a number or a name; None if it contains none."""
        if file.payload.isdigit() and len(file.payload) < 16 and not self._choice.key:
            return int(file.payload)  # the usual case
        value = _value(file)
        if extension(file.name) == self._choice.key.lower() and not isinstance(value, dict):
            return single(value)
        label = self._choice.label_in(value)
        if label is None and isinstance(value, dict) and not self._keys:
            is_empty = not self._choice.key and usual_key(value) is not None
            self._keys = [] if is_empty else list(value)
        return label


def _in_order(
    sample: Iterable[ImageEntry], repeated: list[ArchiveFile], first: int
) -> Iterable[ImageEntry]:
    """The entries of a sample and of its repeated files, which are bad, ordered by offset."""
    if not repeated:  # the usual case
        return sample
    bad = [_bad(file, first, _TWICE) for file in repeated]
    return sorted([*sample, *bad], key=lambda entry: entry.offset)


def extension(name: str) -> str:
    """The suffix of the name without its dot, in lower case."""
    return name[name.rfind(".") + 1 :].lower()


def _entry(image: ArchiveFile, label: int, first: int) -> ImageEntry:
    return ImageEntry(image.name, label, first + image.offset, image.payload, image.reason)


def _bad(file: ArchiveFile, first: int, reason: str) -> ImageEntry:
    return ImageEntry(file.name, UNLABELLED, first + file.offset, b"", file.reason or reason)


def _has_label(file: ArchiveFile) -> bool:
    """Whether a file on its own is a label; text or JSON may be anything."""
    if extension(file.name) == "cls":
        return True
    try:
        label = USUAL.label_in(_value(file))
        return label is not None and whole_label(label) >= UNLABELLED
    except ValueError:
        return False


def _value(file: ArchiveFile) -> object:
    """What a file states: a number, a name or a JSON value; None for a caption. Raises
    ``ValueError`` if the file cannot be read."""
    if file.reason:
        raise ValueError(file.reason)
    text = decoded(file.payload)
    kind = extension(file.name)
    if kind == "json":
        return parse_json(text.encode())
    if kind in ("txt", "text") and not re.fullmatch(r"\s*-?\d+(\.0*)?\s*", text, re.ASCII):
        return None  # a caption
    listed = re.fullmatch(r"\s*\[\s*(-?\d+)\s*\]\s*", text, re.ASCII)  # written by str([3])
    return listed[1] if listed else text.strip()
