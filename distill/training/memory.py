"""When freed memory stays in the process, and when the kernel gets it back."""

import ctypes
import gc
import sys
from collections.abc import Callable

import torch

M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1


def keep_freed_memory() -> None:
    """Tell glibc to reuse big blocks instead of returning them to the kernel after every step.

    A CPU training step frees and takes the same blocks again, and each block taken anew costs page
    faults: a MobileFaceNet step takes up to a third less time without them (docs/benchmarks.md).
    Does nothing where the C library is not glibc.
    """
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Return to the kernel what is free in this process, and to the GPU what torch keeps of it.

    For the end of a piece of work whose blocks the next one has no use for: milliseconds, and those
    that are taken again cost page faults once. On the CPU only with glibc.
    """
    gc.collect()
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of this name."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
