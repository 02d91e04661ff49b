"""The insightface layout of a training set: MS1M and its many children.

A folder with ``train.rec`` (RecordIO), ``train.idx`` (record keys), ``property`` ("identities,
height,width") and verification sets ``*.bin``. Record 0 is a header with the labels [key of the
first identity record, end of keys]; then come the images, then one record an identity with the
labels [first image, last + 1] and no payload. Some packs lack the index, the header or the identity
records; all are read.

An image says its own identity. The ranges in header and identity records are never used for that:
float32 cannot hold odd integers above 2^24, so Glint360K's are off by one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from curation.errors import UserError
from curation.files import atomic_file, sync_folder
from curation.progress import Progress
from curation.record_index import read_index, write_index
from curation.recordio import ImageRecord, RecordReader, RecordWriter

if TYPE_CHECKING:
    from hashlib import _Hash

FLOAT32_INTEGERS = 1 << 24
"""float32 holds every integer up to here; above it neighbouring labels become one."""


@dataclass(frozen=True)
class Source:
    """The files of one training set; ``index`` and ``property`` are None where there are none."""

    records: Path
    index: Path | None
    property: Path | None
    pairs: tuple[Path, ...]


class SourceImage(NamedTuple):
    """One image record: its key in the index, its identity label, its byte offset, its file."""

    key: int
    label: int
    offset: int
    payload: bytes


def find_source(path: Path) -> Source:
    """The training set in the folder ``path``, or of the record file ``path``.

    Raises ``UserError`` saying what was looked for where there is no record file.
    """
    path = Path(path)
    records = path / "train.rec" if path.is_dir() and path.suffix != ".rec" else path
    if records.is_dir():
        raise UserError(f"{records} is a directory; a RecordIO file is wanted here")
    if not records.exists():
        what = "no train.rec in it" if path.is_dir() else "it does not exist"
        raise UserError(
            f"{path}: {what}; give a folder with train.rec (and train.idx, property, *.bin) "
            "or a .rec file"
        )
    index, properties = records.with_suffix(".idx"), records.with_name("property")
    return Source(
        records,
        index if index.exists() else None,
        properties if properties.exists() else None,
        tuple(sorted(records.parent.glob("*.bin"))),
    )


def stated_image_size(source: Source) -> tuple[int, int] | None:
    """(height, width) from the property file, or None where there is none."""
    if source.property is None:
        return None
    words = source.property.read_bytes()[:200].decode("ascii", "backslashreplace").split(",")
    try:
        _, height, width = (int(word) for word in words)
    except ValueError:
        shown = ",".join(words).strip()
        raise UserError(
            f"{source.property}: {shown!r} is not 'identities,height,width'; "
            "correct it or take it away"
        ) from None
    return height, width


def read_images(
    source: Source, progress: Progress | None = None, digest: "_Hash | None" = None
) -> Iterator[SourceImage]:
    """All image records in the order of the file; progress counts bytes.

    Raises ``UserError`` where the file is damaged or holds no image, a label is no identity, or the
    index does not fit. ``digest`` is fed the record file's bytes.
    """
    keys = None if source.index is None else _IndexWalk(source.records, source.index)
    found, first_identity_record = 0, 0
    with RecordReader(source.records, digest) as reader:
        for number, (offset, packed) in enumerate(reader):
            record = _unpack(source.records, offset, packed)
            key = number if keys is None else keys.key_at(offset)
            # Header and identity records have labels and nothing else.
            if record.payload or record.flag == 0 or number < first_identity_record:
                found += 1
                yield _image(source, key, offset, record)
            elif number == 0:
                first_identity_record = _stated_integer(record.label)
            if progress is not None and number % 256 == 0:
                progress(offset, reader.size)
        if progress is not None:
            progress(reader.size, reader.size)
    if keys is not None:
        keys.check_end()
    _check_count(source.records, found, first_identity_record - 1)


def _unpack(path: Path, offset: int, packed: bytes) -> ImageRecord:
    try:
        return ImageRecord.unpack(packed)
    except ValueError as error:
        raise UserError(f"{path}: record at byte {offset} is no image record: {error}") from None


def _image(source: Source, key: int | None, offset: int, record: ImageRecord) -> SourceImage:
    if key is None:
        raise UserError(
            f"{source.index} does not fit {source.records.name}: it lacks the image at byte "
            f"{offset}; take the index away, then the records are read in order"
        )
    label = record.label
    if not (label.is_integer() and 0 <= label <= FLOAT32_INTEGERS):
        raise UserError(
            f"{source.records}: record {key} at byte {offset}: label {label:g} is no identity; "
            f"allowed are whole numbers from 0 to {FLOAT32_INTEGERS}"
        )
    return SourceImage(key, int(label), offset, record.payload)


def _stated_integer(label: float) -> int:
    """The header's number, or 0 where float32 cannot have kept it."""
    return int(label) if label.is_integer() and 0 < label < FLOAT32_INTEGERS else 0


def _check_count(records: Path, found: int, announced: int) -> None:
    if found == 0:
        raise UserError(f"{records} holds no images")
    if found < announced:
        raise UserError(
            f"{records} is truncated: its header announces {announced} images, it holds {found}; "
            "get the file again"
        )


class _IndexWalk:
    """Keys of records that are visited in the order of the file."""

    def __init__(self, records: Path, path: Path) -> None:
        index = read_index(path)
        self._records, self._path = records, path
        self._keys, self._offsets = index.keys.data, index.offsets.data
        self._position = 0

    def key_at(self, offset: int) -> int | None:
        """The key of the record at ``offset``; None where the index does not have it."""
        position = self._position
        if position == len(self._offsets) or self._offsets[position] > offset:
            return None
        if self._offsets[position] < offset:
            self._refuse()
        self._position += 1
        return self._keys[position]

    def check_end(self) -> None:
        """Raises ``UserError`` where entries are left over."""
        if self._position < len(self._offsets):
            self._refuse()

    def _refuse(self) -> NoReturn:
        key, offset = self._keys[self._position], self._offsets[self._position]
        raise UserError(
            f"{self._path} does not fit {self._records.name}: no record begins at byte {offset}, "
            f"where it has key {key}; get both files again, or take the index away"
        )


def write_layout(
    folder: Path,
    images: Iterable[tuple[bytes, int]],
    image_size: tuple[int, int],
    array_labels: bool = False,
) -> None:
    """Write ``train.rec``, ``train.idx`` and ``property``, as MXNet and insightface's tools would.

    ``images`` gives (file, identity label), all of one identity in a row; ``image_size`` is
    (height, width). ``array_labels`` gives each image the labels [label, 0] instead of one scalar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "train.rec"
    unfinished = folder / "train.rec.partial"
    with RecordWriter(unfinished) as writer:
        index, identities = _write_records(writer, images, array_labels)
    with atomic_file(folder / "property") as file:
        file.write(f"{identities},{image_size[0]},{image_size[1]}\n".encode())
    write_index(folder / "train.idx", index)
    unfinished.replace(records)
    sync_folder(folder)


def _write_records(
    writer: RecordWriter, images: Iterable[tuple[bytes, int]], array_labels: bool
) -> tuple[list[tuple[int, int]], int]:
    """The entries of the index, and the number of identities."""
    # The header's numbers are known at the end; its length does not depend on them.
    index = [(0, writer.write(_labels_record(0, 0, 0)))]
    first_image: dict[int, int] = {}
    previous = None
    for key, (payload, label) in enumerate(images, 1):
        if label != previous and label in first_image:
            raise ValueError(f"the images of identity {label} are not in a row")
        first_image.setdefault(label, key)
        previous = label
        index.append((key, writer.write(_image_record(key, label, payload, array_labels))))
    end_of_images = len(index)
    bounds = [*first_image.values(), end_of_images]
    for key, (first, last) in enumerate(pairwise(bounds), end_of_images):
        index.append((key, writer.write(_labels_record(key, first, last))))
    writer.overwrite_first(_labels_record(0, end_of_images, len(index)))
    return index, len(first_image)


def _image_record(key: int, label: int, payload: bytes, array_labels: bool) -> bytes:
    labels = (float(label), 0.0) if array_labels else None
    return ImageRecord(float(label), payload, id=key, labels=labels).pack()


def _labels_record(key: int, first: int, last: int) -> bytes:
    return ImageRecord(float(first), b"", id=key, labels=(float(first), float(last))).pack()
