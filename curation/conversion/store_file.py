"""The data file of an unfinished store, written in liblmdb transactions.

Each transaction contains images and the state of the conversion, under a key that sorts before
theirs. So the file is consistent wherever the process was stopped. The state is deleted when the
store's description is written.
"""

import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import lmdb
import numpy as np

from curation.environment import DATA_FILE, Environment
from curation.errors import UserError
from curation.files import DISK_ERRORS
from curation.lmdb_pages import HEADER
from curation.store import ARRAYS, META_KEY, NAMES_KEY, image_key

STATE_KEY = b"\0"
"""Sorts before the keys of all images, so that images can be appended"""
_MOST_STATE_BYTES = 1 << 16
_ROOM = 16 << 20
"""Bytes of the map beyond one transaction: tree pages and free pages"""
_PAGE = min(mmap.PAGESIZE, 1 << 15)
"""The page size of a file that liblmdb creates on this machine"""
_INLINE_MAX = ((_PAGE - HEADER) // 2 & ~1) - 2
"""The largest node that is stored on the leaf page itself"""
_NODE_HEADER = 8
_KEY = 8
_POINTER = 2
_PAGE_NUMBER = 8


class StoreFile:
    """Writes the data file in ``folder``; only one process may do so at a time.

    Raises ``OSError`` if the disk is full; committed data remain.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATA_FILE
        with _explained(self._path):
            # The folder is locked. The meta page may be synced with the next transaction: until
            # then, the file is in its previous state.
            room = self._size() + _ROOM
            self._environment = lmdb.open(os.fsencode(folder), room, lock=False, metasync=False)
        self._transaction: lmdb.Transaction | None = None

    def close(self) -> None:
        """Close the file. Committed data remain, but only ``finish`` syncs the last of them."""
        if self._transaction is not None:
            self._transaction.abort()
        self._environment.close()

    def append(self, first: int, images: Sequence[bytes]) -> None:
        """Append the images ``first``, ``first + 1``, ... to the transaction of the next
        ``commit``.
        """
        sizes = np.fromiter(map(len, images), np.int64, len(images))
        entries = ((image_key(i), image) for i, image in enumerate(images, first))
        with _explained(self._path):
            self._transaction = self._begin(int(stored_bytes(sizes).sum()))
            self._transaction.cursor().putmulti(entries, append=True)

    def commit(self, state: bytes) -> None:
        """Commit the appended images together with ``state``; callable from any thread."""
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        with _explained(self._path), transaction:
            transaction.put(STATE_KEY, state)

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        """Write an entry of the index."""
        with _explained(self._path), self._begin(len(value)) as transaction:
            transaction.put(key, value)

    def finish(self, meta: bytes) -> None:
        """Write the description of the store. This is final."""
        with _explained(self._path), self._begin(len(meta)) as transaction:
            transaction.put(META_KEY, meta)
            transaction.delete(STATE_KEY)
        with _explained(self._path):
            self._environment.sync(True)

    def _begin(self, room: int) -> lmdb.Transaction:
        wanted = self._size() + room + _ROOM
        if wanted > self._environment.info()["map_size"]:
            self._environment.set_mapsize(2 * wanted)
        return self._environment.begin(write=True)

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def read_state(folder: Path) -> bytes | None:
    """The state in an unfinished store's file; None if there is none or it cannot be read."""
    with suppress(UserError):
        return Environment(folder).get(STATE_KEY, _MOST_STATE_BYTES)
    return None


def is_sound(folder: Path, images: int) -> bool:
    """Whether the unfinished file is valid and holds ``images``; liblmdb itself checks nothing."""
    try:
        environment = Environment(folder)
        environment.check_pages()
        keys = environment.all_keys()
        ours = next(keys, None) == STATE_KEY
        ours &= all(next(keys, None) == image_key(i) for i in range(images))
        return ours and {*islice(keys, len(ARRAYS) + 2)} <= {*ARRAYS, NAMES_KEY}
    except UserError:
        return False


def stored_bytes(sizes: np.ndarray) -> np.ndarray:
    """The size in the file of each image of ``sizes`` bytes: float64 ``[N]``.

    A value too large to fit twice on a page is stored on overflow pages; the leaf page then holds
    only their number. Source: LMDB's mdb.c, ``me_nodemax``, ``mdb_node_add`` and ``OVPAGES``.
    """
    usable = _PAGE - HEADER
    inline = _NODE_HEADER + _KEY + sizes <= _INLINE_MAX
    own_pages = np.where(inline, 0, -(-(HEADER + sizes) // _PAGE))
    node = _NODE_HEADER + _KEY + np.where(inline, sizes + sizes % 2, _PAGE_NUMBER) + _POINTER
    leaf = _PAGE / (usable // node)
    # A branch page has one node of key and page number per leaf page.
    branch = leaf / (usable // (_NODE_HEADER + _KEY + _POINTER))
    return own_pages * _PAGE + leaf + branch


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Convert LMDB's disk errors to ``OSError``."""
    try:
        yield
    except lmdb.MemoryError:
        raise UserError(
            f"{path} cannot be mapped: {os.strerror(errno.ENOMEM)}; allow the process more address "
            "space (`ulimit -v unlimited`) and run the same command again"
        ) from None
    except lmdb.Error as error:  # the message is the system's, without the number
        code = next((code for code in DISK_ERRORS if os.strerror(code) in str(error)), None)
        if code is None:
            raise UserError(
                f"{path}: {error}; run the same command again, or remove {path.parent} to start "
                "over"
            ) from None
        raise OSError(code, os.strerror(code), str(path)) from None
