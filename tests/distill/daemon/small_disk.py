"""A full disk of a few megabytes: a tmpfs, which only root can mount."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MEGABYTES = 3


@pytest.fixture
def disk(tmp_path: Path) -> Iterator["SmallDisk"]:
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs"]
    if subprocess.run(["mount", *options, place], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield SmallDisk(place)
    subprocess.run(["umount", "--lazy", place], check=True)


class SmallDisk:
    """A folder with its own disk."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"

    def fill(self) -> None:
        """Leave no free byte."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        assert self.free() == 0

    def make_room(self) -> None:
        self._filler.unlink()

    def free(self) -> int:
        """Free bytes."""
        status = os.statvfs(self.place)
        return status.f_bavail * status.f_frsize
