"""Whether this machine can have a GPU that torch uses, without importing torch."""

from pathlib import Path

_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""NVIDIA (twice), AMD, and Windows' subsystem for Linux"""


def has_gpu_driver() -> bool:
    """Whether the driver of a GPU is present. Importing torch takes seconds and 600 MB."""
    return any(Path(each).exists() for each in _DRIVERS)
