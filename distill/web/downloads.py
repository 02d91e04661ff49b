"""Downloads: one file of a bundle, or a whole bundle as a tar file that is created on the fly."""

import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_PIECE = 1 << 20


def tar_of(files: Mapping[str, Path], top: str) -> Iterator[bytes]:
    """The files, by name, as an uncompressed tar file with the top folder ``top``."""
    for name, path in files.items():
        with path.open("rb") as file:
            there = os.fstat(file.fileno())
            head = tarfile.TarInfo(f"{top}/{name}")
            head.size, head.mtime, head.mode = there.st_size, int(there.st_mtime), 0o644
            yield head.tobuf(tarfile.PAX_FORMAT)
            left = there.st_size
            while left and (piece := file.read(min(left, _PIECE))):
                yield piece
                left -= len(piece)
        if left:
            raise OSError(f"{path}: it became shorter while it was sent")
        yield bytes(-there.st_size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
