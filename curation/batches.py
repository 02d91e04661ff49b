"""Splits image files into lists of bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

File = TypeVar("File")

MOST_BYTES = 16 << 20
"""A list ends once it has this many bytes; a single file may exceed it"""


def batches(
    files: Iterable[File], most: int, length: Callable[[File], int]
) -> Iterator[list[File]]:
    """``files`` in lists of at most ``most`` that end where their bytes reach ``MOST_BYTES``."""
    batch: list[File] = []
    size = 0
    for file in files:
        batch.append(file)
        size += length(file)
        if len(batch) == most or size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
