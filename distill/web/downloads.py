"""Downloads: one file of a bundle, or a whole bundle as a tar file that is created on the fly."""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_PIECE = 1 << 20


def tar_of(files: Mapping[str, Path], top: str) -> Iterator[bytes]:
    """The files, by name, as an uncompressed tar file with the top folder ``top``."""
    for name, path in files.items():
        size = path.stat().st_size
        head = tarfile.TarInfo(f"{top}/{name}")
        head.size, head.mtime, head.mode = size, int(path.stat().st_mtime), 0o644
        yield head.tobuf(tarfile.PAX_FORMAT)
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
