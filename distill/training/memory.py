"""Keep freed memory in the process: a CPU training step frees and takes the same blocks again."""

import ctypes
import sys

M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1


def keep_freed_memory() -> None:
    """Tell glibc to reuse big blocks instead of returning them to the kernel after every step.

    Each block taken anew costs page faults: a MobileFaceNet step on the CPU takes up to a third
    less time without them (docs/benchmarks.md). Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
