"""Parquet tables in the layout of Hugging Face as a source: a column of images, one of labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.sources.opening import source
from curation.sources.parquet_pages import measure_pages
from curation.sources.shards import check_kind, find_shards
from curation.sources.table_columns import TableColumns
from curation.sources.tables import TableSource, load_pyarrow

SUFFIXES = (".parquet",)
_ROWS = 256
"""Maximum rows per read"""
_BYTES_TOGETHER, _DICTIONARY_BYTES_TOGETHER = 32 << 20, 256 << 20
"""Limits for rows of their page's average size, and for rows that share one dictionary value"""
_MOST_TEXT, _MOST_PARTS = 1 << 24, 1 << 22
"""Limits for a file's metadata: bytes of a string, elements of a list"""


def _is_parquet(path: Path) -> bool:
    if find_shards(path, SUFFIXES):
        return True
    kind = detect_kind(path) if path.is_file() and not path.suffix else None
    return kind is not None and kind.name == "parquet"


@source("parquet", "Parquet tables (.parquet; one or a folder of them)", _is_parquet, unit="bytes")
def open_tables(path: Path) -> TableSource:
    """The tables at ``path``; ``UserError`` if one is no Parquet file or they mix splits."""
    shards = find_shards(path, SUFFIXES) or [path]
    splits = sorted({shard.name.partition("-")[0] for shard in shards if "-of-" in shard.name})
    if len(splits) > 1:
        raise UserError(
            f"{path} has the tables of several splits ({', '.join(splits[:5])}); give the files of "
            f"one split, such as '{shards[0].parent}/{splits[0]}-*.parquet'"
        )
    check_kind(shards, "Parquet table", ("parquet",))
    load_parquet()
    return TableSource("parquet", path, shards, _opened)


def load_parquet() -> ModuleType:
    """``pyarrow.parquet``; the ``UserError`` explains how to install it."""
    return load_pyarrow("pyarrow.parquet", "Parquet tables")


class _ParquetTable:
    """An open table."""

    def __init__(self, shard: Path, file: Any) -> None:
        self._shard, self._file = shard, file
        self.schema, self.rows = file.schema_arrow, file.metadata.num_rows

    def batches(self, columns: TableColumns) -> Iterator[Any]:
        together = _rows_together(self._shard, self._file, columns.roots)
        return self._file.iter_batches(together, columns=columns.wanted, use_threads=False)


@contextmanager
def _opened(shard: Path) -> Iterator[_ParquetTable]:
    with _file(shard) as file:
        yield _ParquetTable(shard, file)


def _file(shard: Path) -> Any:
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
