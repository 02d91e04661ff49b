"""A cache of a teacher's embeddings, opened: see ``teachers.embeddings`` for how it is made."""

from pathlib import Path

import numpy as np

from teachers.cache_files import NORM, UNIT, damaged, open_array, read_about
from teachers.row_table import RowTable, checksums

_TOGETHER = 1024


class EmbeddingCache:
    """Unit vectors ``unit`` float16 [N, 2, D] and lengths ``norm`` float32 [N, 2], memory-mapped.

    N are the rows of the store; axis 1 is upright, mirrored. Rows that no view has asked for yet
    are zero; ``teachers.embeddings.cache_embeddings`` fills in what a view needs. Raises
    ``UserError`` where the files are not those of a cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = about = read_about(folder)
        self.unit = open_array(folder, UNIT, about)
        self.norm = open_array(folder, NORM, about)
        self.table = RowTable(folder, about)

    @property
    def embedding(self) -> int:
        """D, the length of the vectors."""
        return self.unit.shape[2]

    @property
    def digest(self) -> str:
        return self.folder.name

    def verify(self, wanted: np.ndarray) -> None:
        """``verify_rows`` of those where ``wanted`` (bool [N]) is true."""
        for first in range(0, len(wanted), _TOGETHER):
            rows = first + np.flatnonzero(wanted[first : first + _TOGETHER])
            if len(rows):
                self.verify_rows(rows)

    def verify_rows(self, rows: np.ndarray) -> None:
        """Compare a few rows with their checksums; ``UserError`` if one is off."""
        off = self.table.entries[rows] != checksums(self.unit[rows], self.norm[rows])
        if off.any():
            raise damaged(self.folder, f"row {rows[np.argmax(off)]} is not what it was")
