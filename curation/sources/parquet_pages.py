"""Estimates the memory of a Parquet column's pages from their headers before pyarrow reads them.

A few kilobytes can expand to gigabytes: a compressed page, or a long dictionary value to which
every row refers. The file's footer reveals neither. The header before each page does, and pyarrow
allocates no more memory than the header states.

Source: parquet-format's ``parquet.thrift`` (``PageHeader``), Thrift's compact protocol.
"""

import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from curation.errors import UserError
from curation.files import open_regular

MOST_PAGE = 512 << 20
"""Bytes of an uncompressed page"""
_DICTIONARY = 2
_UNPACKED, _PACKED, _DATA, _DATA_2 = 2, 3, 5, 8
"""Fields of a page header; the first field of ``_DATA`` and ``_DATA_2`` is the value count"""
_SHORT_HEADER, _LONGEST_HEADER = 1 << 8, 1 << 20
_DEEPEST = 4
# Types of the compact protocol.
_NO_BYTES, _BYTE, _INTEGERS, _DOUBLE, _TEXT, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, 12


class ColumnPages(NamedTuple):
    """The memory for some columns, in bytes."""

    a_row: int
    """Maximum per row, averaged over a page"""
    a_value: int
    """Maximum of one dictionary value"""


def measure_pages(shard: Path, table: Any, columns: list[str]) -> ColumnPages:
    """Measure ``columns`` of a ``pyarrow.parquet.ParquetFile``; each result is the file's maximum.

    Raises ``UserError`` if a page is larger than ``MOST_PAGE``, ``ValueError`` if a header is
    damaged or row groups share their pages, which could be read without end.
    """
    rows = dict.fromkeys(columns, 0)
    values = dict.fromkeys(columns, 0)
    metadata = table.metadata
    with open_regular(shard) as file:
        left = os.fstat(file.fileno()).st_size
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for index in range(group.num_columns):
                chunk = group.column(index)
                name = chunk.path_in_schema.split(".")[0]
                if name in rows and chunk.num_values:
                    left -= max(chunk.total_compressed_size, 0)
                    if left < 0:
                        raise ValueError("the pages of its columns overlap")
                    a_row, a_value = _measure_chunk(file, chunk, f"{shard}: row group {number}")
                    rows[name] = max(rows[name], a_row)
                    values[name] = max(values[name], a_value)
    return ColumnPages(sum(rows.values()), sum(values.values()))


def _measure_chunk(file: BinaryIO, chunk: Any, where: str) -> ColumnPages:
    begin = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        begin = min(begin, chunk.dictionary_page_offset)
    end = begin + chunk.total_compressed_size
    a_row = a_value = 0
    while begin < end:
        header, length = _page_header(file, begin)
        size, packed = header.get(_UNPACKED, 0), header.get(_PACKED, -1)
        if size > MOST_PAGE:
            raise UserError(
                f"{where}: a page of the column {chunk.path_in_schema!r} has {size:,} bytes, more "
                f"than {MOST_PAGE:,}; write it with smaller pages or row groups"
            )
        if packed < 0:
            raise ValueError(f"the header of a page at byte {begin:,} is damaged")
        if header.get(1) == _DICTIONARY:
            a_value = max(a_value, size)
        else:
            count = header.get(_DATA, header.get(_DATA_2, 0))
            a_row = max(a_row, size // max(count, 1))
        begin += length + packed
    return ColumnPages(a_row, a_value)


def _page_header(file: BinaryIO, begin: int) -> tuple[dict[int, int], int]:
    """The integers of the header at ``begin`` by field, for a struct its first, and its length."""
    for most in (_SHORT_HEADER, _LONGEST_HEADER):
        file.seek(begin)
        reader = _Compact(file.read(most))
        try:
            return reader.struct(), reader.at
        except IndexError:
            continue
    raise ValueError(f"the header of a page at byte {begin:,} is damaged or cut off")


class _Compact:
    """Reads Thrift's compact protocol; ``IndexError`` if the bytes end, ``ValueError`` for types
    that no page header contains."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, int]:
        """The integers of a struct by field; a nested struct gives its first integer."""
        if depth == _DEEPEST:
            raise ValueError("the header of a page is nested too deep")
        found: dict[int, int] = {}
        field = 0
        while mark := self._byte():
            field = field + (mark >> 4) if mark >> 4 else self._integer()
            kind = mark & 0x0F
            if kind in _INTEGERS:
                found[field] = self._integer()
            elif kind == _STRUCT:
                found[field] = self.struct(depth + 1).get(1, 0)
            elif kind == _TEXT:
                self._skip(self._unsigned())
            elif kind in (_BYTE, _DOUBLE):
                self._skip(1 if kind == _BYTE else 8)
            elif kind not in _NO_BYTES:
                raise ValueError(f"the header of a page has a value of type {kind}")
        return found

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _integer(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise IndexError
