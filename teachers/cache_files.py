"""The files of an embedding cache: their names, and safe ways to open them."""

import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.arrays import map_array
from curation.errors import UserError
from curation.files import UnreadableError, read_whole
from curation.json_text import LARGEST_RECORD, parse_record

ABOUT = "cache.json"
UNIT, NORM, ROWS = "unit.npy", "norm.npy", "rows.npy"
CLAIMS, LOCK = "claims", "lock"
Precision = Literal["float16", "int8"]
"""Precision of the stored unit vectors"""
UNIT_TYPES: dict[str, np.dtype] = {"float16": np.dtype("<f2"), "int8": np.dtype("i1")}


class CacheAbout(BaseModel):
    """The content of ``cache.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[2]
    teacher: str
    preprocessing: dict[str, Any]
    store: str
    images: int = Field(gt=0)
    embedding: int = Field(gt=0)
    claim: int = Field(gt=0, le=1 << 16)
    """Number of rows per claim of a process: those with equal ``row // claim``"""
    view: str | None = None
    """The digest of the augmented view; None for the image and its mirror image"""
    precision: Precision = "float16"

    @property
    def answers(self) -> int:
        """Embeddings per image: upright and mirrored, or of one augmented view."""
        return 2 if self.view is None else 1

    def arrays(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Type and shape of each file."""
        return {
            UNIT: (UNIT_TYPES[self.precision], (self.images, self.answers, self.embedding)),
            NORM: (np.dtype("<f4"), (self.images, self.answers)),
            ROWS: (np.dtype("<u4"), (self.images,)),
        }

    @property
    def size(self) -> int:
        """Bytes of the arrays on disk."""
        return sum(math.prod(shape) * kind.itemsize for kind, shape in self.arrays().values())


def damaged(folder: Path, how: str) -> UserError:
    """The error for a damaged cache."""
    return UserError(
        f"the embedding cache {folder} is damaged: {how}; delete the folder and run again, which "
        "recomputes it"
    )


def read_about(folder: Path) -> CacheAbout:
    """The content of ``cache.json``; ``UserError`` if it is missing or has another format."""
    try:
        return parse_record(read_whole(folder / ABOUT, LARGEST_RECORD), CacheAbout)
    except UnreadableError as error:
        raise damaged(folder, f"{ABOUT}: {error.reason}") from None
    except ValueError as error:
        raise damaged(folder, f"{ABOUT}: {error}") from None


def map_cached(folder: Path, name: str, about: CacheAbout) -> np.memmap:
    """One of the arrays, memory-mapped; ``UserError`` if its type or shape is wrong."""
    try:
        return map_array(folder / name, *about.arrays()[name])
    except UnreadableError as error:
        raise damaged(folder, f"{name}: {error.reason}") from None


def open_to_lock(folder: Path, name: str) -> BinaryIO:
    """Open a lock file, creating it if necessary.

    Raises ``UserError`` if it is not a regular file: opening a named pipe would block.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / name, flags, 0o666)
    except OSError as error:
        raise damaged(folder, f"{name} cannot be opened: {error.strerror}") from None
    file = os.fdopen(descriptor, "rb+", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise damaged(folder, f"{name} is not a regular file")
    return file
