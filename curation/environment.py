"""LMDB environments for reading: checked before LMDB touches them, shared, and safe across fork.

LMDB maps its file into memory and believes it, so a truncated file is a bus error. The header of
``data.mdb`` is therefore read by plain reads first. LMDB also allows one environment of a file in a
process, and none to be used across a fork; stores share theirs here, by file and process.
"""

import ctypes
import mmap
import os
import struct
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curation.errors import UserError

if TYPE_CHECKING:
    import lmdb

DATA_FILE = "data.mdb"
READ_AHEAD_STEP = 128 << 10
"""The smallest limit that is usual for one request to a disk"""

_LMDB_MAGIC = 0xBEEFC0DE
_LMDB_VERSION = 1
_PAGE_HEADER = 16
# MDB_meta: magic, version, address, map size, two databases (free pages, main), last page, txn.
_META = struct.Struct("<IIQQ48s48sQQ")
# MDB_db: page size (in the free-page database only), flags, depth, four counts of pages, root.
_DATABASE = struct.Struct("<IHHQQQQQ")
_NO_PAGE = (1 << 64) - 1


class _Meta(NamedTuple):
    page_size: int
    last_page: int
    transaction: int
    entries: int
    root: int


def check_data_file(path: Path) -> int:
    """How many entries the LMDB data file ``path`` has.

    Raises ``UserError`` where it is no such file, or shorter than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = _read_meta(file.read(_PAGE_HEADER + _META.size))
        file.seek(first.page_size if first else 0)
        second = _read_meta(file.read(_PAGE_HEADER + _META.size))
    if first is None or second is None:
        raise UserError(f"{path} is damaged: it does not begin like an LMDB file")
    newest = max(first, second, key=lambda meta: meta.transaction)
    wanted = (newest.last_page + 1) * newest.page_size
    if size < wanted:
        raise UserError(f"{path} is truncated: it has {size} bytes of {wanted}; make it again")
    if newest.root != _NO_PAGE and newest.root > newest.last_page:
        raise UserError(f"{path} is damaged: its root page {newest.root} lies outside the file")
    return newest.entries


def _read_meta(page: bytes) -> _Meta | None:
    if len(page) < _PAGE_HEADER + _META.size:
        return None
    magic, version, _, _, free, main, last, transaction = _META.unpack_from(page, _PAGE_HEADER)
    page_size = _DATABASE.unpack(free)[0]
    plausible = 512 <= page_size <= 1 << 16 and page_size & (page_size - 1) == 0
    if magic != _LMDB_MAGIC or version != _LMDB_VERSION or not plausible:
        return None
    return _Meta(page_size, last, transaction, *_DATABASE.unpack(main)[6:])


def _fetch_pages(begin: int, end: int) -> None:
    """Start reading the mapped pages of the addresses ``begin`` to ``end`` into the page cache."""
    if not sys.platform.startswith("linux"):
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    # Linux reads no more for one call than a disk takes in one request, and forgets the rest.
    for address in range(begin - begin % mmap.PAGESIZE, end, READ_AHEAD_STEP):
        madvise(address, min(READ_AHEAD_STEP, end - address), mmap.MADV_WILLNEED)


def _address(value: memoryview) -> int:
    return np.frombuffer(value, np.uint8).ctypes.data


class ReadEnvironment:
    """The read-only environment of one file, opened once in each process that reads from it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = 0
        self._environment: lmdb.Environment | None = None

    def get(self, key: bytes) -> bytes | None:
        """The value under ``key``, or None; ``UserError`` where LMDB finds the file damaged."""
        import lmdb

        try:
            with self._opened().begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            raise UserError(f"{self._folder / DATA_FILE} is damaged: {error}") from None

    def get_many(self, keys: Iterable[bytes]) -> Iterator[bytes | None]:
        """The values under ``keys`` in one transaction, which ``get`` opens for each."""
        import lmdb

        try:
            with self._opened().begin() as transaction:
                for key in keys:
                    yield transaction.get(key)
        except lmdb.Error as error:
            raise UserError(f"{self._folder / DATA_FILE} is damaged: {error}") from None

    def read_ahead(self, first: bytes, last: bytes) -> None:
        """Have the system read the pages from the value of ``first`` to that of ``last`` at once.

        A hint, for values that lie in the order of their keys. Returns when the reading is under
        way; does nothing where the system is not Linux.
        """
        import lmdb

        try:
            with self._opened().begin(buffers=True) as transaction:
                begin, end = transaction.get(first), transaction.get(last)
                if begin is not None and end is not None:
                    _fetch_pages(_address(begin), _address(end) + len(end))
        except lmdb.Error as error:
            raise UserError(f"{self._folder / DATA_FILE} is damaged: {error}") from None

    def entries(self) -> "Iterator[tuple[memoryview, memoryview]]":
        """All keys and values in order; each is gone when the next one is asked for."""
        import lmdb

        try:
            with self._opened().begin(buffers=True) as transaction:
                yield from transaction.cursor()
        except lmdb.Error as error:
            raise UserError(f"{self._folder / DATA_FILE} is damaged: {error}") from None

    def _opened(self) -> "lmdb.Environment":
        if self._environment is None or self._process != os.getpid():
            with _lock:
                self._open()
        assert self._environment is not None
        return self._environment

    def _open(self) -> None:
        if self._environment is not None and self._process == os.getpid():
            return  # another thread was faster
        import lmdb

        if self._environment is not None:
            self._environment.close()  # the parent's: this closes only what fork copied
        self._environment = lmdb.open(
            str(self._folder),
            readonly=True,
            lock=False,
            create=False,
            readahead=False,
            meminit=False,
            max_spare_txns=8,
        )
        self._process = os.getpid()


_lock = threading.Lock()
_environments: "weakref.WeakValueDictionary[tuple[int, int], ReadEnvironment]" = (
    weakref.WeakValueDictionary()
)


def read_environment(folder: Path) -> ReadEnvironment:
    """The process's one environment of the data file in ``folder``, after checking the file."""
    path = folder / DATA_FILE
    check_data_file(path)
    status = path.stat()
    with _lock:
        known = _environments.get((status.st_dev, status.st_ino))
        if known is None:
            known = _environments[status.st_dev, status.st_ino] = ReadEnvironment(folder)
        return known
