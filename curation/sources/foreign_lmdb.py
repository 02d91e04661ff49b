"""LMDB environments written by other libraries as a source.

An environment is a folder or a single file. Four layouts are supported:

- Each value is an image file under any key, and a text file lists ``KEY LABEL``: the only text file
  in the folder, or the one with the environment's name.
- ``label-N`` is the label of the image file ``image-N``.
- Values are msgpack of (image file, label) or (image file, feature, label), as in
  HaiyuWu/SOTA-Face-Recognition-Train-and-Test, or maps of both (``packed_values``).
- Values are Caffe's ``Datum`` messages with image files and labels.

Keys that begin with ``__``, and the usual ones for counts, hold metadata if their values are not
images. Images are read in key order, without liblmdb, msgpack, protobuf or pickle.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.environment import DATA_FILE, Environment
from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.files import regular_file_size
from curation.images import MAX_FILE_BYTES, encoding_of
from curation.labels import UNLABELLED
from curation.name_index import NameIndex
from curation.sources import caffe_datum, packed_values
from curation.sources.caffe_datum import is_datum
from curation.sources.entries import EntrySource, ImageEntry, LabelNumbers
from curation.sources.image_source import repeated
from curation.sources.label_choice import is_label_column
from curation.sources.lists import is_heading
from curation.sources.opening import source
from curation.store import META_KEY, PARTIAL, STAMP_FILE
from curation.text_files import text_lines

_LISTS = (".txt", ".lst", ".tsv", ".csv")
_COUNTS = frozenset(
    {
        b"num-samples",
        b"num_samples",
        b"length",
        b"len",
        b"size",
        b"total",
        b"total_number",
        b"classnum",
    }
)
_IMAGES, _LABEL = (b"image", b"img"), b"label"
"""Beginnings of the keys in pairs"""
_MOST_LABEL_BYTES = 1024


def _is_foreign(path: Path) -> bool:
    """Whether this is an LMDB that is not one of our stores or a partial one; it may be damaged."""
    folder, name = _place(path)
    ours = folder.name.endswith(PARTIAL) or (folder / STAMP_FILE).exists()
    if (ours and name == DATA_FILE) or not _is_lmdb(folder / name):
        return False
    try:
        return Environment(folder, name).get(META_KEY) is None
    except UserError:
        return True  # opening it reports what is wrong


def _place(path: Path) -> tuple[Path, str]:
    """The folder and the file name of an environment, which may be a single file
    (``MDB_NOSUBDIR``)."""
    return (path, DATA_FILE) if path.is_dir() else (path.parent, path.name)


def _is_lmdb(file: Path) -> bool:
    kind = detect_kind(file) if file.is_file() else None
    return kind is not None and kind.name == "lmdb"


@source(
    "lmdb",
    "an LMDB of another library (a folder with data.mdb, or one file)",
    _is_foreign,
    unit="bytes",
)
def open_lmdb(path: Path) -> "ForeignLmdb":
    """The environment at ``path``."""
    return ForeignLmdb(path)


class ForeignLmdb(EntrySource):
    """The images of an environment; an entry's position is its index in key order."""

    reads_again = False

    def __init__(self, path: Path) -> None:
        folder, name = _place(path)
        self._data, self._list = folder / name, _list_of(path)
        super().__init__("lmdb", path, [self._data, *filter(None, [self._list])])
        self._environment = Environment(folder, name)

    def progress_of(self, offset: int) -> int:
        size = self.stamp().size
        return min(size, size * (offset + 1) // max(self._environment.entries, 1))

    def entries(self) -> Iterator[ImageEntry]:
        listed = None
        if self._list is not None:
            listed = read_labels(self._list, map(_name_of, self._environment.all_keys()))
        pairs = _LabelKeys(self._environment)
        number = 0
        for place, (key, value) in enumerate(self._environment.all_items(MAX_FILE_BYTES + 4096)):
            if (value is None or encoding_of(value) is None) and pairs.is_no_image(key):
                continue
            name = _name_of(key)
            try:
                label = pairs.label(key) if listed is None else listed.label(place)
                yield _entry(name, number, value, label)
            except ValueError as error:
                yield ImageEntry(name, UNLABELLED, number, b"", str(error))
            number += 1
        if pairs.alone:
            reason = f"{pairs.alone:,} of its labels ({_LABEL.decode()}...) have no image"
            yield ImageEntry("", UNLABELLED, number, b"", reason)
        if listed is not None and listed.unknown:
            reason = f"no image has the key {listed.first_unknown!r} of {self._list}"
            if listed.unknown > 1:
                reason += f", nor {listed.unknown - 1:,} more of its keys"
            yield ImageEntry("", UNLABELLED, number, b"", reason)

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        if not identities and self._list is None:
            is_folder = self.path.is_dir()
            name = self.path / "labels.txt" if is_folder else self.path.with_suffix(".txt")
            yield f"no image has a label; labels are lines KEY LABEL in {name}"

    def image_sizes(self) -> Iterator[np.ndarray]:
        """Assumes that all entries have the same size."""
        size, count = regular_file_size(self._data), self._environment.entries
        yield from repeated(np.array([size // max(count, 1)]), count)


class _LabelKeys:
    """Keys ``image-N`` with ``label-N``, as in many sets for text recognition."""

    def __init__(self, environment: Environment) -> None:
        self._environment, self._numbers = environment, LabelNumbers()
        self._used = self._seen = 0

    @property
    def alone(self) -> int:
        """The number of labels without images, once all keys were seen."""
        return self._seen - self._used

    def label(self, key: bytes) -> int | None:
        """The label of the image ``key``; ``ValueError`` if it cannot be read."""
        begin = next(filter(key.startswith, _IMAGES), None)
        if begin is None:
            return None
        value = self._environment.get(_LABEL + key.removeprefix(begin), _MOST_LABEL_BYTES)
        if value is None:
            return None
        self._used += 1
        return self._numbers.of(value.decode("utf-8", "replace").strip())

    def is_no_image(self, key: bytes) -> bool:
        """Whether the key, whose value is no image, is that of a label or of metadata."""
        if key.startswith(_LABEL) and self._used:  # the keys of images come first
            self._seen += 1
            return True
        return key.startswith(b"__") or key in _COUNTS


def _name_of(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _entry(name: str, number: int, value: bytes | None, label: int | None) -> ImageEntry:
    if value is None:
        reason = f"its value is larger than {MAX_FILE_BYTES:,} bytes"
        return ImageEntry(name, UNLABELLED, number, b"", reason)
    if encoding_of(value) is not None:
        return ImageEntry(name, UNLABELLED if label is None else label, number, value)
    try:
        payload, own = (caffe_datum if is_datum(value) else packed_values).image_and_label(value)
    except ValueError as error:
        return ImageEntry(name, UNLABELLED, number, b"", str(error))
    return ImageEntry(name, own if label is None else label, number, payload)


def _list_of(path: Path) -> Path | None:
    """The list of labels in the folder, or the one named like the single-file environment."""
    beside = path.iterdir() if path.is_dir() else map(path.with_suffix, _LISTS)
    found = sorted(each for each in beside if each.suffix.lower() in _LISTS and each.is_file())
    if len(found) > 1:
        names = ", ".join(each.name for each in found[:3])
        raise UserError(
            f"{path} has several lists ({names}); keep only the one with lines KEY LABEL"
        )
    return found[0] if found else None


class _Labels(NamedTuple):
    """The labels in a list for the keys in order: int64 ``[N]``, and whether it has one."""

    labels: np.ndarray
    are_listed: np.ndarray
    unknown: int
    """Lines whose key no image has"""
    first_unknown: str

    def label(self, number: int) -> int | None:
        return int(self.labels[number]) if self.are_listed[number] else None


def read_labels(path: Path, names: Iterable[str]) -> _Labels:
    """The labels of the keys called ``names``.

    Memory depends on the number of images, not on the length of the list.
    """
    index, numbers = NameIndex(names), LabelNumbers()
    labels = np.full(len(index.positions), UNLABELLED, np.int64)
    are_listed = np.zeros(len(labels), bool)
    unknown, first_unknown = 0, ""
    for number, line in text_lines(path, "a list of keys and labels"):
        words = line.replace(",", " ").split(None, 2)
        try:
            if len(words) != 2:
                raise ValueError(f"{line[:60]!r} is not KEY LABEL")
            image = index.position(words[0])
            if image < 0 and number == 1 and is_heading(line):
                if not is_label_column(words[1]):
                    raise ValueError(f"the column {words[1][:40]!r} is not called label")
                continue
            if image < 0:
                unknown, first_unknown = unknown + 1, first_unknown or words[0][:80]
                continue
            if are_listed[image]:
                raise ValueError(f"the key {words[0]!r} occurs twice; expected KEY LABEL")
            labels[image], are_listed[image] = numbers.of(words[1]), True
        except ValueError as error:
            raise UserError(f"{path}: line {number}: {error}") from None
    return _Labels(labels, are_listed, unknown, first_unknown)
