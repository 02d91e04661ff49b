"""Arrow streams as a source: what ``save_to_disk`` of Hugging Face's ``datasets`` writes.

The files are mapped into memory, so that no statement in them makes pyarrow allocate memory: bodies
of messages are slices of the file, and compressed ones are refused.
Source: Arrow's columnar format (``Message.fbs``); the flatbuffers of messages.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.files import regular_file_size
from curation.sources.opening import source
from curation.sources.shards import find_shards
from curation.sources.table_columns import TableColumns
from curation.sources.tables import TableSource, arrow_errors, load_pyarrow

SUFFIXES = (".arrow",)
_CACHE = "cache-"
"""The beginning of the names of intermediate results beside a data set"""
_PART = re.compile(r"-\d+-of-\d+$")
_ROWS = 256
_MOST_TEXT = 64 << 20
"""Bytes of names and labels in a batch of rows"""
_CONTINUATION = b"\xff\xff\xff\xff"
_BATCH = "record batch"
_AS_PARQUET = "write it as Parquet (`to_parquet` of `datasets`) and give that"
# Fields of the flatbuffers' tables, in the order of Message.fbs.
_HEADER, _COMPRESSION = 2, 3


def _is_arrow(path: Path) -> bool:
    return bool(find_shards(path, SUFFIXES))


@source("arrow", "a folder saved by `save_to_disk` of datasets (.arrow)", _is_arrow, unit="bytes")
def open_streams(path: Path) -> TableSource:
    """The tables at ``path``; ``UserError`` if one is no Arrow stream or they mix splits."""
    shards = find_shards(path, SUFFIXES)
    shards = [shard for shard in shards if not shard.name.startswith(_CACHE)] or shards
    splits = sorted({_PART.sub("", shard.stem) for shard in shards})
    if len(splits) > 1:
        raise UserError(
            f"{path} has the tables of several splits ({', '.join(splits[:5])}); give the files of "
            f"one split, such as '{shards[0].parent}/{splits[0]}*.arrow'"
        )
    for shard in shards:
        with shard.open("rb") as file:
            is_stream = file.read(4) == _CONTINUATION
        if not is_stream:
            kind = detect_kind(shard)
            what = f"{kind.what}, " if kind is not None else ""
            raise UserError(f"{shard} is {what}not an Arrow stream; {_AS_PARQUET}")
    _load_arrow()
    return TableSource("arrow", path, shards, _opened)


def _load_arrow() -> Any:
    return load_pyarrow("pyarrow", "Arrow streams")


class _ArrowTable:
    """An open stream."""

    def __init__(self, shard: Path, mapped: Any) -> None:
        self._pa, self._shard, self._mapped = _load_arrow(), shard, mapped
        self.schema = self._pa.ipc.open_stream(mapped).schema
        self.rows = 0
        with suppress(*arrow_errors()):  # what was cut off is not counted
            for batch in self._stored():
                self.rows += batch.num_rows

    def batches(self, columns: TableColumns) -> Iterator[Any]:
        """Batches of at most ``_ROWS`` rows, checked, because pyarrow trusts their offsets."""
        for stored in self._stored():
            wanted = stored.select(columns.roots)
            wanted.validate(full=True)
            for first in range(0, wanted.num_rows, _ROWS):
                batch = wanted.slice(first, _ROWS)
                self._check_text(batch, columns)
                yield batch

    def _stored(self) -> Iterator[Any]:
        """The record batches of the file, without reading their bodies."""
        self._mapped.seek(0)
        reader = self._pa.ipc.MessageReader.open_stream(self._mapped)
        while True:
            try:
                message = reader.read_next_message()
            except StopIteration:
                return
            if message.type == _BATCH:
                self._check_plain(message.metadata)
                yield self._pa.ipc.read_record_batch(message, self.schema)
            elif message.type != "schema":
                raise UserError(f"{self._shard} has dictionaries; {_AS_PARQUET}")

    def _check_plain(self, metadata: Any) -> None:
        content = memoryview(metadata)
        root = _at(content, 0, "<I")
        header = _field(content, root, _HEADER)
        if header and _field(content, header + _at(content, header, "<I"), _COMPRESSION):
            raise UserError(f"{self._shard} is compressed; {_AS_PARQUET}")

    def _check_text(self, batch: Any, columns: TableColumns) -> None:
        size = sum(batch.column(name).nbytes for name in columns.roots[1:])
        if size > _MOST_TEXT:
            raise UserError(
                f"{self._shard}: {batch.num_rows} rows of {', '.join(columns.roots[1:])} have "
                f"{size:,} bytes; at most {_MOST_TEXT:,} are allowed"
            )


def _field(content: memoryview, table: int, number: int) -> int:
    """The position of a field of a flatbuffer's table; 0 if it is absent."""
    fields = table - _at(content, table, "<i")
    if 4 + 2 * number >= _at(content, fields, "<H"):
        return 0
    offset = _at(content, fields + 4 + 2 * number, "<H")
    return table + offset if offset else 0


def _at(content: memoryview, place: int, form: str) -> int:
    """A number; ``ValueError`` if it is outside the content."""
    if not 0 <= place <= len(content) - struct.calcsize(form):
        raise ValueError("its message is damaged")
    number: int = struct.unpack_from(form, content, place)[0]
    return number


@contextmanager
def _opened(shard: Path) -> Iterator[_ArrowTable]:
    regular_file_size(shard)
    with _load_arrow().memory_map(str(shard)) as mapped:
        yield _ArrowTable(shard, mapped)
