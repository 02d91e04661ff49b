"""Peak memory of a step, over the job's process and all processes that it started."""

import sys
import threading
from typing import Any

import psutil

INTERVAL = 0.1
"""Seconds between two measurements"""
SEARCH = 20
"""Measurements between two searches for new processes, which read the whole process table"""


class PeakMemory:
    """Measures memory in a thread while its block runs.

    ``bytes`` is the peak sum of private memory over the processes. Pages of mapped files
    (libraries, stores, caches) are excluded: the kernel reclaims them whenever it needs memory, and
    ranks share them. Peaks shorter than ``INTERVAL`` may be missed. ``gpu_bytes`` is the peak sum
    of this process's tensors on its GPU; None if it did not use one.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.gpu_bytes: int | None = None
        self._family: list[psutil.Process] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> "PeakMemory":
        if (gpu := _gpu()) is not None:
            gpu.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        if (gpu := _gpu()) is not None:
            self.gpu_bytes = gpu.max_memory_allocated()

    def _watch(self) -> None:
        looks = 0
        while not self._ended.wait(INTERVAL):
            if looks % SEARCH == 0:
                this = psutil.Process()
                self._family = [this, *this.children(recursive=True)]
            self._look()
            looks += 1

    def _look(self) -> None:
        family = self._family or [psutil.Process()]
        self.bytes = max(self.bytes, sum(map(private_bytes, family)))


def private_bytes(process: psutil.Process) -> int:
    """Resident bytes that belong to this process alone; 0 if it has ended."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return memory.rss - getattr(memory, "shared", 0)  # shared is known on Linux only


def _gpu() -> Any:
    """``torch.cuda`` if this process has used a GPU; does not import torch."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
