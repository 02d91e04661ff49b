"""The files of an embedding cache: their names, and opening them without believing them."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.errors import UserError
from curation.files import regular_file_size

ABOUT = "cache.json"
UNIT, NORM, ROWS = "unit.npy", "norm.npy", "rows.npy"
_ABOUT_BYTES = 1 << 20


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

    def arrays(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Type and shape of each file."""
        return {
            UNIT: (np.dtype("<f2"), (self.images, 2, self.embedding)),
            NORM: (np.dtype("<f4"), (self.images, 2)),
            ROWS: (np.dtype("<u4"), (self.images,)),
        }


def damaged(folder: Path, how: str) -> UserError:
    """The error for a cache that is not as it was written."""
    return UserError(
        f"the embedding cache {folder} is damaged: {how}; delete the folder and run again, which "
        "computes it anew"
    )


def read_about(folder: Path) -> CacheAbout:
    """``UserError`` where ``cache.json`` is missing or is not what this version writes."""
    path = folder / ABOUT
    if regular_file_size(path) > _ABOUT_BYTES:
        raise damaged(folder, f"{ABOUT} is larger than {_ABOUT_BYTES} bytes")
    try:
        return CacheAbout.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "text"
        raise damaged(folder, f"{ABOUT}: {where}: {first['msg']}") from None


def open_array(folder: Path, name: str, about: CacheAbout) -> np.memmap:
    """One of the arrays, mapped for reading; ``UserError`` where it has another type or shape."""
    kind, shape = about.arrays()[name]
    regular_file_size(folder / name)
    try:
        array = np.lib.format.open_memmap(folder / name, mode="r")
    except Exception as error:  # NumPy evaluates the header, so this can be nearly any
        raise damaged(folder, f"{name} cannot be read ({type(error).__name__})") from None
    if array.dtype != kind or array.shape != shape or not array.flags.c_contiguous:
        raise damaged(folder, f"{name} is {array.dtype} {array.shape}, not {kind} {shape}")
    return array
