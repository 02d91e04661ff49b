"""Which blocks of a cache are computed, and which process is at which: shared by any number."""

import fcntl
from pathlib import Path

import numpy as np

BLOCKS, CLAIMS = "blocks.npy", "claims"
COMPUTED = 1 << 32
"""What is added to a block's CRC-32 in the table, so that an entry of 0 means: not computed."""


class BlockTable:
    """``blocks.npy``, uint64: for each block of rows 2^32 + its CRC-32, or 0.

    It is memory-mapped: what one process enters, the others see at once. An entry is eight aligned
    bytes, so it is there whole or not at all.
    """

    def __init__(self, folder: Path, images: int, block: int, writable: bool = False) -> None:
        self.images, self.block = images, block
        self.entries = np.load(
            folder / BLOCKS, mmap_mode="r+" if writable else "r", allow_pickle=False
        )

    def rows(self, block: int) -> slice:
        """The rows of one block."""
        return slice(block * self.block, min((block + 1) * self.block, self.images))

    def holding(self, rows: np.ndarray) -> np.ndarray:
        """The blocks that hold ``rows``, ascending."""
        return np.unique(rows // self.block)

    def missing(self, blocks: np.ndarray) -> np.ndarray:
        """Those of ``blocks`` that nobody has computed."""
        return blocks[self.entries[blocks] == 0]

    def is_computed(self, block: int) -> bool:
        return bool(self.entries[block])

    def fits(self, block: int, crc32: int) -> bool:
        """Whether the block was computed and had this checksum then."""
        return int(self.entries[block]) == COMPUTED + crc32

    def enter(self, block: int, crc32: int) -> None:
        """Note a block whose rows are on the disk."""
        self.entries[block] = COMPUTED + crc32
        self.entries.flush()


class Claims:
    """The blocks this process works on: locks on the bytes of the file ``claims``, one a block.

    The system gives a process's locks back when it ends, in whatever way, so another process can
    take over at once what one that was killed had begun.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / CLAIMS).open("ab")

    def take(self, block: int) -> bool:
        """Claim a block; False where another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)
        except (BlockingIOError, PermissionError):  # systems differ in what they say
            return False
        return True

    def give_back(self, block: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, block)

    def close(self) -> None:
        """Give back everything."""
        self._file.close()
