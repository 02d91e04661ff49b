"""The memory that Python allocates in a block, for tests of readers."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Memory:
    """Bytes, known after the block."""

    peak: int = 0
    kept: int = 0


@contextmanager
def traced_memory() -> Iterator[Memory]:
    """Traces the block, and stops even if it fails: tracing makes the tests after it slow."""
    memory = Memory()
    tracemalloc.start()
    try:
        yield memory
    finally:
        memory.kept, memory.peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
