"""A cache of a teacher's embeddings, opened: see ``teachers.embeddings`` for how it is made."""

import json
from pathlib import Path

import numpy as np

from curation.errors import UserError
from teachers.block_table import BlockTable
from teachers.filling import NORM, UNIT, checksum

ABOUT = "cache.json"


class EmbeddingCache:
    """Unit vectors ``unit`` float16 [N, 2, D] and lengths ``norm`` float32 [N, 2], memory-mapped.

    N are the rows of the store; axis 1 is upright, mirrored. Rows of blocks that no view has asked
    for yet are zero; ``teachers.embeddings.cache_embeddings`` fills in what a view needs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unit = np.load(folder / UNIT, mmap_mode="r", allow_pickle=False)
        self.norm = np.load(folder / NORM, mmap_mode="r", allow_pickle=False)
        self.table = open_table(folder)

    @property
    def embedding(self) -> int:
        """D, the length of the vectors."""
        return self.unit.shape[2]

    @property
    def digest(self) -> str:
        return self.folder.name

    def verify(self, rows: np.ndarray) -> None:
        """Compare each block that holds ``rows`` with its checksum; ``UserError`` if one is off."""
        for block in self.table.holding(rows).tolist():
            span = self.table.rows(block)
            if not self.table.fits(block, checksum(self.unit[span], self.norm[span])):
                raise UserError(
                    f"the embedding cache {self.folder} is damaged in rows "
                    f"{span.start}..{span.stop - 1}; delete the folder and run again"
                )


def open_table(folder: Path, writable: bool = False) -> BlockTable:
    """Which blocks of the cache are computed."""
    about = json.loads((folder / ABOUT).read_text())
    return BlockTable(folder, about["images"], about["block"], writable)
