"""The ``.idx`` file beside a record file: which key lies at which byte."""

import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.errors import UserError
from curation.files import regular_file_size


class RecordIndex(NamedTuple):
    """An ``.idx`` file in the order of the byte offsets; both int64 ``[records]``."""

    keys: np.ndarray
    offsets: np.ndarray


def read_index(path: Path) -> RecordIndex:
    """Read an ``.idx`` file: one ``key TAB byte offset`` a line.

    Raises ``UserError`` with the line where it is something else, or a key or offset stands twice.
    """
    regular_file_size(path)
    columns = array.array("q"), array.array("q")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            key, offset = _index_line(line, f"{path}: line {number}")
            columns[0].append(key)
            columns[1].append(offset)
    keys, offsets = (np.asarray(column, np.int64) for column in columns)
    order = np.argsort(offsets, kind="stable")
    index = RecordIndex(keys[order], offsets[order])
    _check_unique("key", index.keys, path)
    _check_unique("byte offset", index.offsets, path)
    return index


def _check_unique(what: str, values: np.ndarray, path: Path) -> None:
    ordered = np.sort(values)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise UserError(f"{path}: the {what} {twice[0]} stands twice; get the file again")


def _index_line(line: bytes, where: str) -> tuple[int, int]:
    try:
        key, offset = (int(word) for word in line.split())
    except ValueError:
        shown = line[:40].decode("ascii", "backslashreplace").strip()
        raise UserError(f"{where}: {shown!r} is not a key and a byte offset") from None
    if not 0 <= key < 1 << 62 or not 0 <= offset < 1 << 62:
        raise UserError(f"{where}: key {key} and byte offset {offset} cannot be")
    return key, offset


def write_index(path: Path, entries: list[tuple[int, int]]) -> None:
    """Write ``(key, byte offset)`` entries as MXNet's ``.idx``."""
    Path(path).write_text("".join(f"{key}\t{offset}\n" for key, offset in entries), "ascii")
