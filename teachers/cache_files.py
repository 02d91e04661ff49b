"""The files of an embedding cache: their names, and opening them without believing them."""

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
"""Of the values of the unit vectors"""
UNIT_TYPES: dict[str, np.dtype] = {"float16": np.dtype("<f2"), "int8": np.dtype("i1")}


class CacheAbout(BaseModel):
    """``cache.json``: what the cache is of."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[2]
    teacher: str
    preprocessing: dict[str, Any]
    store: str
    images: int = Field(gt=0)
    embedding: int = Field(gt=0)
    claim: int = Field(gt=0, le=1 << 16)
    """Rows that a process claims together: those with one ``row // claim``"""
    view: str | None = None
    """The digest of the augmented view; None for the picture and its mirror"""
    precision: Precision = "float16"

    @property
    def answers(self) -> int:
        """Of each image: upright and mirrored, or of one augmented view."""
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
        """Bytes that the arrays take on the disk."""
        return sum(math.prod(shape) * kind.itemsize for kind, shape in self.arrays().values())


def damaged(folder: Path, how: str) -> UserError:
    """The error for a cache that is not as it was written."""
    return UserError(
        f"the embedding cache {folder} is damaged: {how}; delete the folder and run again, which "
        "computes it anew"
    )


def read_about(folder: Path) -> CacheAbout:
    """``UserError`` where ``cache.json`` is missing or is not what this version writes."""
    try:
        return parse_record(read_whole(folder / ABOUT, LARGEST_RECORD), CacheAbout)
    except UnreadableError as error:
        raise damaged(folder, f"{ABOUT}: {error.reason}") from None
    except ValueError as error:
        raise damaged(folder, f"{ABOUT}: {error}") from None


def map_cached(folder: Path, name: str, about: CacheAbout) -> np.memmap:
    """One of the arrays, mapped for reading; ``UserError`` where it has another type or shape."""
    try:
        return map_array(folder / name, *about.arrays()[name])
    except UnreadableError as error:
        raise damaged(folder, f"{name}: {error.reason}") from None


def open_to_lock(folder: Path, name: str) -> BinaryIO:
    """One of the files that are only locked, made where it is missing.

    ``UserError`` where something else has its name: opening a named pipe would wait for a reader.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / name, flags, 0o666)
    except OSError as error:
        raise damaged(folder, f"{name} cannot be opened: {error.strerror}") from None
    file = os.fdopen(descriptor, "rb+", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise damaged(folder, f"{name} is no regular file")
    return file
