"""Parquet tables in the layout of Hugging Face as a source: a column of images, one of labels.

An image is a struct with ``bytes`` (and ``path``), or plain bytes. pyarrow reads the tables a few
rows at a time. If labels are unsorted, the conversion keeps what it has read.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.file_kinds import what_is_this
from curation.files import regular_file_size
from curation.images import MAX_FILE_BYTES
from curation.labels import UNLABELLED
from curation.sources.entries import SHARD_BITS, EntrySource, ImageEntry, LabelNumbers
from curation.sources.label_choice import LabelChoice, no_label, single, usual_key
from curation.sources.opening import source
from curation.sources.parquet_pages import measure_pages
from curation.sources.shards import find_shards

SUFFIXES = (".parquet",)
IMAGES = ("image", "img", "jpg", "jpeg", "png", "image_bytes", "bytes")
NAMES = ("__key__", "file_name", "filename", "image_filename", "path", "key", "name")
"""Names of the name column in order of preference"""
_JSON = "json"
"""WebDataset's column with the objects of JSON files"""
_ROWS = 256
"""Maximum rows per read"""
_BYTES_TOGETHER, _DICTIONARY_BYTES_TOGETHER = 32 << 20, 256 << 20
"""Limits for rows of their page's average size, and for rows that share one dictionary value"""
_LONGEST_NAME = 4096
_MOST_TEXT, _MOST_PARTS = 1 << 24, 1 << 22
"""Limits for a file's metadata: bytes of a string, elements of a list"""


def _is_parquet(path: Path) -> bool:
    if find_shards(path, SUFFIXES):
        return True
    kind = what_is_this(path) if path.is_file() and not path.suffix else None
    return kind is not None and kind.name == "parquet"


@source("parquet", "Parquet tables (.parquet; one or a folder of them)", _is_parquet, unit="bytes")
def open_tables(path: Path) -> "ParquetSource":
    """The tables at ``path``; ``UserError`` if one is no Parquet file or they mix splits."""
    shards = find_shards(path, SUFFIXES) or [path]
    splits = sorted({shard.name.partition("-")[0] for shard in shards if "-of-" in shard.name})
    if len(splits) > 1:
        raise UserError(
            f"{path} has the tables of several splits ({', '.join(splits[:5])}); give the files of "
            f"one split, such as '{shards[0].parent}/{splits[0]}-*.parquet'"
        )
    for shard in shards:
        kind = what_is_this(shard)
        if kind is None or kind.name != "parquet":
            what = "no Parquet table" if kind is None else f"{kind.what}, not a Parquet table"
            raise UserError(f"{shard} is {what}; download it again, or leave it out")
    return ParquetSource(path, shards)


def load_parquet() -> ModuleType:
    """``pyarrow.parquet``; the ``UserError`` explains how to install it."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "Parquet tables need pyarrow, which is not installed: `pip install "
            "'face-distill[parquet]'`"
        ) from None
    return pyarrow.parquet


class ParquetSource(EntrySource):
    """The images in Parquet tables; an entry's position is its row."""

    reads_again = False
    choices = frozenset({"key"})

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self._unread: list[str] = []
        """The columns of a table without labels"""
        super().__init__("parquet", path, shards)
        self._ends = np.cumsum([0, *map(regular_file_size, shards)]).tolist()
        load_parquet()
        self._rows = [1] * len(shards)

    def progress_of(self, offset: int) -> int:
        number, row = offset >> SHARD_BITS, self.place_of(offset)
        begin, end = self._ends[number : number + 2]
        return int(begin + (end - begin) * min(row + 1, self._rows[number]) // self._rows[number])

    def entries(self) -> Iterator[ImageEntry]:
        numbers = LabelNumbers()
        for number, shard in enumerate(self._shards):
            first, row = number << SHARD_BITS, 0
            try:
                for entry in self._table_entries(shard, first, numbers):
                    row = entry.offset - first + 1
                    self._rows[number] = max(self._rows[number], row)
                    yield entry
            except UserError:
                raise
            except _arrow_errors() as error:
                reason = f"it cannot be read past this point: {_in_one_line(error)}"
                yield ImageEntry("", UNLABELLED, first + row, b"", reason)

    def _table_entries(
        self, shard: Path, first: int, numbers: LabelNumbers
    ) -> Iterator[ImageEntry]:
        row = 0
        with _opened(shard) as table:
            columns = _TableColumns(shard, table.schema_arrow, self.choice)
            self._unread = columns.unread
            together = _rows_together(shard, table, columns.roots)
            for batch in table.iter_batches(together, columns=columns.wanted, use_threads=False):
                yield from columns.entries(batch, first + row, numbers)
                row += batch.num_rows

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        if not identities and self._unread:
            yield no_label("column", self._unread, self.choice)

    def describe(self, key: int, offset: int) -> str:
        return f"{self.shard_of(offset)}: {self._row_name(offset)}"

    def name(self, offset: int) -> str:
        """The name in the row at ``offset``, or the row's number."""
        shard = f"{self.shard_of(offset).name}: " if len(self._shards) > 1 else ""
        found = self._row_name(offset)
        return f"{shard}{found}" if found == _row_number(self.place_of(offset)) else found

    def _row_name(self, offset: int) -> str:
        found = super().name(offset)
        is_named = found != self.shard_of(offset).name
        return found if is_named else _row_number(self.place_of(offset))

    def image_sizes(self) -> Iterator[np.ndarray]:
        """From the tables' metadata, assuming images of equal size within a table."""
        for shard in self._shards:
            try:
                with _opened(shard) as table:
                    rows = table.metadata.num_rows
            except _arrow_errors():
                continue
            rows = min(rows, regular_file_size(shard))
            if rows > 0:
                yield np.full(rows, regular_file_size(shard) // rows, np.int64)


def _row_number(row: int) -> str:
    return f"row {row:,} (from 0)"


def _opened(shard: Path) -> Any:
    return load_parquet().ParquetFile(
        shard,
        buffer_size=1 << 20,
        pre_buffer=False,
        thrift_string_size_limit=_MOST_TEXT,
        thrift_container_size_limit=_MOST_PARTS,
        arrow_extensions_enabled=False,
    )


def _rows_together(shard: Path, table: Any, columns: list[str]) -> int:
    """The rows per read: few if rows may be large."""
    pages = measure_pages(shard, table, columns)
    by_size = _BYTES_TOGETHER // max(pages.a_row, 1)
    by_dictionary = _DICTIONARY_BYTES_TOGETHER // max(pages.a_value, 1)
    return max(1, min(_ROWS, by_size, by_dictionary))


class _TableColumns:
    """The columns of a table that hold images, labels and names."""

    def __init__(self, shard: Path, schema: Any, choice: LabelChoice) -> None:
        import pyarrow as pa

        types = {field.name: field.type for field in schema}
        fit = {name.lower(): name for name, kind in types.items() if _has_images(pa, kind)}
        image = next((fit[name] for name in IMAGES if name in fit), None)
        if image is None and len(fit) == 1:
            image = next(iter(fit.values()))
        if image is None and fit:
            raise UserError(
                f"{shard} has several columns of images, {', '.join(fit.values())[:200]}; call the "
                f"one to read {IMAGES[0]}, or drop the others"
            )
        if image is None:
            raise UserError(
                f"{shard} has no column of images among {', '.join(types)[:200]}; expected "
                f"one of bytes, or a struct with bytes, called {', '.join(IMAGES[:4])}, ..."
            )
        self.image, self._is_struct = image, pa.types.is_struct(types[image])
        self._label = _label_path(types, choice)
        if choice.key and not self._label:
            raise UserError(f"{shard} has no column {choice.key}, but {', '.join(types)[:200]}")
        self._name = next((name for name in NAMES if name in types and name != image), None)
        label = [".".join(self._label)] if self._label else []
        others = [self._name] if self._name and self._name not in self._label[:1] else []
        self.wanted = [image, *label, *others]
        self.roots = [image, *self._label[:1], *others]
        self.unread = [] if label else [name for name in types if name not in (image, "__key__")]

    def entries(self, batch: Any, first: int, numbers: LabelNumbers) -> Iterator[ImageEntry]:
        images, paths = batch.column(self.image), None
        if self._is_struct:
            parts = {images.type.field(i).name: part for i, part in enumerate(images.flatten())}
            images, paths = parts["bytes"], parts.get("path")
        names = batch.column(self._name) if self._name else None
        labels = [None] * len(images)
        if self._label:
            root, *inner = self._label
            labels = batch.column(root).to_pylist()
            for key in inner:
                labels = [None if each is None else each[key] for each in labels]
        rows = zip(_names(len(images), names, paths), labels, _files(images), strict=True)
        for offset, row in enumerate(rows, first):
            yield _row(offset, *row, numbers)


def _label_path(types: dict[str, Any], choice: LabelChoice) -> tuple[str, ...]:
    """The column of labels and the fields inside it; () if there is none."""
    if choice.key in types:
        return (choice.key,)
    if choice.key:
        path = tuple(choice.key.split("."))
        return path if _is_field(types.get(path[0]), path[1:]) else ()
    found = usual_key(types)
    if found is not None:
        return (found,)
    fields = _fields(types.get(_JSON))
    inner = usual_key(fields)
    return () if inner is None else (_JSON, inner)


def _is_field(kind: Any, path: Sequence[str]) -> bool:
    for key in path:
        kind = _fields(kind).get(key)
    return kind is not None


def _fields(kind: Any) -> dict[str, Any]:
    """The types of a struct's fields; {} for anything else."""
    import pyarrow as pa

    if kind is None or not pa.types.is_struct(kind):
        return {}
    return {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}


def _names(count: int, *columns: Any) -> Iterable[str]:
    """For each row, the first name found in the columns."""
    there = [column.to_pylist() for column in columns if column is not None] or [[""] * count]
    first = (next(filter(None, row), "") for row in zip(*there, strict=True))
    names = there[0] if len(there) == 1 else first
    return (str(name)[:_LONGEST_NAME].replace("\0", "") if name else "" for name in names)


def _files(images: Any) -> Iterator[bytes | int | None]:
    """The bytes of each row in a column, their length if it exceeds the limit, or None for null.

    Reads Arrow's buffers directly, several times faster than creating a pyarrow object per row.
    """
    if str(images.type) not in ("binary", "large_binary"):
        images = images.cast("large_binary")
    _, ends, data = images.buffers()
    kind = np.dtype(np.int64 if str(images.type).startswith("large") else np.int32)
    ends = np.frombuffer(ends, kind, len(images) + 1, images.offset * kind.itemsize).tolist()
    content = memoryview(b"" if data is None else data)
    for (begin, end), is_there in zip(pairwise(ends), _are_there(images), strict=True):
        if not is_there:
            yield None
        elif end - begin > MAX_FILE_BYTES:
            yield end - begin
        else:
            yield content[begin:end].tobytes()


def _are_there(column: Any) -> Iterable[bool]:
    return column.is_valid().to_pylist() if column.null_count else repeat(True, len(column))


def _row(
    offset: int, name: str, label: Any, content: bytes | int | None, numbers: LabelNumbers
) -> ImageEntry:
    if content is None:
        reason = "its row has no bytes of an image"
        if name:
            reason += ", only a name; tables of names are read as lists (.csv, .jsonl)"
        return ImageEntry(name, UNLABELLED, offset, b"", reason)
    if isinstance(content, int):
        reason = f"it has {content:,} bytes, more than {MAX_FILE_BYTES:,}"
        return ImageEntry(name, UNLABELLED, offset, b"", reason)
    try:
        label = single(label)
        is_missing = label is None or label != label  # pandas writes NaN
        found = UNLABELLED if is_missing else numbers.of(label)
    except ValueError as error:
        return ImageEntry(name, UNLABELLED, offset, b"", str(error))
    return ImageEntry(name, found, offset, content)


def _has_images(pa: ModuleType, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        fields = _fields(kind)
        return "bytes" in fields and _is_bytes(pa, fields["bytes"])
    return _is_bytes(pa, kind)


def _is_bytes(pa: ModuleType, kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _arrow_errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return pa.ArrowException, OSError, MemoryError, ValueError, KeyError


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
