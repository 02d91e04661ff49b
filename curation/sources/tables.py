"""Tables as a source: Parquet files and Arrow streams, read a few rows at a time.

If labels are unsorted, the conversion keeps what it has read.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from curation.errors import UserError
from curation.files import regular_file_size
from curation.labels import UNLABELLED
from curation.sources.entries import SHARD_BITS, EntrySource, ImageEntry, LabelNumbers
from curation.sources.image_source import repeated
from curation.sources.label_choice import no_label
from curation.sources.table_columns import TableColumns


def load_pyarrow(module: str, what: str) -> ModuleType:
    """A module of pyarrow; the ``UserError`` explains how to install it to read ``what``."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"{what} need pyarrow, which is not installed: `pip install 'face-distill[parquet]'`"
        ) from None


class OpenTable(Protocol):
    """A table that is open; errors of pyarrow pass through."""

    schema: Any
    """``pyarrow.Schema``"""
    rows: int
    """As stated by the file"""

    def batches(self, columns: TableColumns) -> Iterator[Any]:
        """The rows in order as ``pyarrow.RecordBatch``, few enough to be in memory together."""
        ...


class TableSource(EntrySource):
    """The images in tables; an entry's position is its row."""

    reads_again = False
    choices = frozenset({"key"})

    def __init__(
        self,
        kind: str,
        path: Path,
        shards: Sequence[Path],
        opened: Callable[[Path], AbstractContextManager[OpenTable]],
    ) -> None:
        super().__init__(kind, path, shards)
        self._opened = opened
        self._ends = np.cumsum([0, *map(regular_file_size, shards)]).tolist()
        self._rows = [1] * len(shards)

    def progress_of(self, offset: int) -> int:
        number, row = offset >> SHARD_BITS, self.place_of(offset)
        begin, end = self._ends[number : number + 2]
        return int(begin + (end - begin) * min(row + 1, self._rows[number]) // self._rows[number])

    def entries(self) -> Iterator[ImageEntry]:
        numbers = LabelNumbers()
        for number in range(len(self._shards)):
            first, row = number << SHARD_BITS, 0
            try:
                for entry in self._table_entries(number, numbers):
                    row = entry.offset - first + 1
                    yield entry
            except UserError:
                raise
            except arrow_errors() as error:
                reason = f"it cannot be read past this point: {_in_one_line(error)}"
                yield ImageEntry("", UNLABELLED, first + row, b"", reason)

    def _table_entries(self, number: int, numbers: LabelNumbers) -> Iterator[ImageEntry]:
        shard, first = self._shards[number], number << SHARD_BITS
        with self._opened(shard) as table:
            columns = TableColumns(shard, table.schema, self.choice)
            self._rows[number] = max(table.rows, 1)
            for batch in table.batches(columns):
                yield from columns.entries(batch, first, numbers)
                first += batch.num_rows

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        if identities:
            return
        with suppress(*arrow_errors()), self._opened(self._shards[0]) as table:
            unread = TableColumns(self._shards[0], table.schema, self.choice).unread
            if unread:
                yield no_label("column", unread, self.choice)

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
                with self._opened(shard) as table:
                    rows = table.rows
            except arrow_errors():
                continue
            rows = min(rows, regular_file_size(shard))
            if rows > 0:
                yield from repeated(np.array([regular_file_size(shard) // rows]), rows)


def _row_number(row: int) -> str:
    return f"row {row:,} (from 0)"


def arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for a damaged table."""
    import pyarrow as pa

    return pa.ArrowException, OSError, MemoryError, ValueError, KeyError


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
