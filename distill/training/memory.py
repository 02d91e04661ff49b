"""Control over whether freed memory stays in the process or returns to the kernel."""

import ctypes
import gc
import sys
from collections.abc import Callable

import torch

M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1


def keep_freed_memory() -> None:
    """Make glibc reuse large blocks instead of returning them to the kernel after every step.

    A CPU training step frees and allocates the same blocks again, and every new block costs page
    faults: without them a MobileFaceNet step takes up to a third less time (docs/benchmarks.md).
    Does nothing if the C library is not glibc.
    """
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Return free memory of this process to the kernel, and torch's cached memory to the GPU.

    Call it after work whose blocks the next work cannot reuse. It takes milliseconds, and blocks
    that are allocated again cost page faults once. On the CPU it works with glibc only.
    """
    gc.collect()
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library, or None."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
