"""Features in the ``.bin`` format of the MegaFace and LFR tools: OpenCV matrices of float32.

The header is four int32: rows, columns, bytes per row, and 5, OpenCV's code for float32.
"""

import os
import struct
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import open_regular
from distill.evaluation.features import check_memory

_HEAD = struct.Struct("<4i")
_FLOAT32 = 5
_MOST_DIMENSIONS = 8192


def read_matrix(path: Path, wanted: int | None = None) -> np.ndarray:
    """Read float32 [rows, columns]; ``wanted`` is the number of rows, if it is known.

    Raises `UserError` if the file is not such a matrix, is truncated, or does not fit into memory.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise UserError(f"{path}: {size} bytes are too few for a matrix of features")
        rows, columns, step, kind = _HEAD.unpack(head)
        if rows < 1 or columns < 1 or step != 4 * columns or kind != _FLOAT32:
            raise UserError(
                f"{path}: its first numbers are {rows}, {columns}, {step}, {kind}; expected "
                "rows, columns, 4 x columns and 5"
            )
        if size != _HEAD.size + 4 * rows * columns:
            raise UserError(
                f"{path}: {rows} x {columns} float32 take {_HEAD.size + 4 * rows * columns:,} "
                f"bytes, and it has {size:,}"
            )
        if wanted is not None and rows != wanted:
            raise UserError(
                f"{path}: it has {rows:,} rows; expected {wanted:,}, one for each line of the list"
            )
        check_memory(path, f"{rows:,} x {columns:,}", rows * columns)
        return np.fromfile(file, "<f4", rows * columns).reshape(rows, columns)


def read_vector(path: Path) -> np.ndarray:
    """Read a matrix with one column, float32 [rows]."""
    found = read_matrix(path)
    if found.shape[1] != 1 or len(found) > _MOST_DIMENSIONS:
        raise UserError(
            f"{path}: it is {len(found):,} x {found.shape[1]:,}; expected one feature, n x 1 "
            f"with n up to {_MOST_DIMENSIONS:,}"
        )
    return found[:, 0]
