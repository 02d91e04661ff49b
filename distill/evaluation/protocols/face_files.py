"""Face images listed by a protocol: already aligned, or with five points for alignment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from curation.alignment import align
from curation.errors import UserError
from curation.files import UnreadableError, read_whole, regular_file_size
from curation.images import MAX_FILE_BYTES, check_some_pixels, decode


@dataclass(frozen=True)
class FaceFiles:
    """The images ``paths`` below ``root``, with ``points`` [N, 5, 2] if they must be aligned.

    ``lists`` is a digest of everything else that determines the evaluation. A face without points
    that is not square is centred on a black square.
    """

    root: Path
    paths: Sequence[Path] = field(repr=False)
    lists: str
    points: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, number: int) -> np.ndarray:
        """The pixels of one face, uint8 RGB [H, W, 3]."""
        path = self.paths[number]
        pixels = decode(read_whole(path, MAX_FILE_BYTES), str(path))
        if self.points is None:
            return _squared(pixels)
        try:
            return align(pixels, self.points[number])
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None

    def check_there(self) -> None:
        """Raise `UserError` with the first missing or empty image, and their number."""
        if 0 in self._sizes:
            raise UserError(
                f"{self.paths[self._sizes.index(0)]}: the image is empty "
                f"({self._sizes.count(0):,} of {len(self):,} images of the lists are); copy it "
                "again"
            )
        missing = [number for number, size in enumerate(self._sizes) if size < 0]
        if not missing:
            return
        first = self.paths[missing[0]]
        try:
            regular_file_size(first)
        except UnreadableError as error:
            raise UserError(
                f"{error}; {len(missing):,} of {len(self):,} images of the lists are not there"
            ) from None

    def check_some(self) -> None:
        """`check_some_pixels` of the images, which are there."""
        check_some_pixels(
            len(self),
            lambda number: read_whole(self.paths[number], MAX_FILE_BYTES),
            lambda number: str(self.paths[number]),
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the lists and of the images' names below the root and sizes.

        It is equal on every machine, wherever the folder lies.
        """
        digest, above = hashlib.sha256(self.lists.encode()), len(self.root.parts)
        for path, size in zip(self.paths, self._sizes, strict=True):
            name = "/".join(path.parts[above:])
            digest.update(f"{name}|{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """`digest` with the images' modification times; the key of caches on this machine."""
        digest = hashlib.sha256(self.digest.encode())
        for path in self.paths:
            digest.update(b"%d\n" % path.stat().st_mtime_ns)
        return digest.hexdigest()

    @cached_property
    def _sizes(self) -> list[int]:
        """Sizes in bytes; -1 for a path that is not a file."""
        return [_size(path) for path in self.paths]


def visible_images(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files in a folder with these suffixes, sorted, without hidden ones such as ``._1.jpg``,
    which macOS makes.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else -1
    except (OSError, ValueError):
        return -1


def _squared(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = pixels
    return square
