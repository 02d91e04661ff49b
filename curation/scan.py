"""The first pass of a conversion: every image's label, place and checksum, and what it needs.

The scan reads the record file once, checks every image, and takes the file's SHA-256. It is kept
beside the unfinished store, so that a conversion goes on without reading everything again, and
knows when the source is not the same any more.
"""

import array
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from curation.errors import UserError
from curation.files import atomic_file
from curation.images import encoding_of, probe_size
from curation.ms1m import Source, read_images, stated_image_size
from curation.progress import Progress

STAMP_FILE = "source.json"
SCAN_FILE = "scan.npz"
_COLUMNS = ("keys", "labels", "offsets", "sizes", "checksums")


class SourceStamp(BaseModel):
    """By what a source is known again; ``source.json`` beside the store."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    size: int
    modified_ns: int
    digest: str
    index_digest: str | None
    image_size: tuple[int, int]
    encoding: Literal["jpeg", "png", "mixed"]


@dataclass(frozen=True)
class Scan:
    """Images in the order of the file, each array int64 ``[N]``."""

    stamp: SourceStamp
    keys: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    """Byte offset of the record"""
    sizes: np.ndarray
    """Bytes of the image file"""
    checksums: np.ndarray
    """CRC-32 of the image file"""


def scan_source(source: Source, progress: Progress | None = None) -> Scan:
    """Read the source once; progress counts bytes.

    Raises ``UserError`` at the first record that is damaged, no image, or of another size.
    """
    size = stated_image_size(source)
    rows = array.array("q")
    encodings: set[str] = set()
    digest = hashlib.sha256()
    before = source.records.stat()
    for key, label, offset, payload in read_images(source, progress, digest):
        size = _check_image(source, key, offset, payload, size)
        encodings.add(encoding_of(payload) or "")
        rows.extend((key, label, offset, len(payload), zlib.crc32(payload)))
    assert size is not None
    stamp = SourceStamp(
        name=source.records.name,
        size=before.st_size,
        modified_ns=before.st_mtime_ns,
        digest=digest.hexdigest(),
        index_digest=_index_digest(source),
        image_size=size,
        encoding=encodings.pop() if len(encodings) == 1 else "mixed",  # type: ignore[arg-type]
    )
    return Scan(stamp, *np.asarray(rows, np.int64).reshape(-1, len(_COLUMNS)).T)


def save_scan(folder: Path, scan: Scan) -> None:
    """Keep a scan in ``folder``; its stamp is written last and says that it is there."""
    with atomic_file(folder / SCAN_FILE) as file:
        arrays = {name: getattr(scan, name) for name in _COLUMNS}
        np.savez(file, **arrays)
    with atomic_file(folder / STAMP_FILE) as file:
        file.write(scan.stamp.model_dump_json(indent=2).encode())


def load_scan(folder: Path) -> Scan | None:
    """The scan kept in ``folder``, or None where there is none that can be read."""
    stamp = load_stamp(folder)
    if stamp is None:
        return None
    try:
        with np.load(folder / SCAN_FILE, allow_pickle=False) as arrays:
            return Scan(stamp, *(arrays[name] for name in _COLUMNS))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def load_stamp(folder: Path) -> SourceStamp | None:
    """The stamp in ``folder``, or None where there is none that can be read."""
    try:
        return SourceStamp.model_validate_json((folder / STAMP_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def is_source(stamp: SourceStamp, source: Source, progress: Progress | None = None) -> bool:
    """Whether ``source`` is what ``stamp`` was taken of.

    Size and time of change decide where they are the same; a copied or touched file is read and its
    digest compared.
    """
    status = source.records.stat()
    if stamp.index_digest != _index_digest(source):
        return False
    if (stamp.size, stamp.modified_ns) == (status.st_size, status.st_mtime_ns):
        return True
    return has_digest(source.records, stamp.size, stamp.digest, progress)


def has_digest(path: Path, size: int, digest: str, progress: Progress | None = None) -> bool:
    """Whether the file has this size and SHA-256; progress counts bytes."""
    return path.stat().st_size == size and _file_digest(path, progress) == digest


def _check_image(
    source: Source, key: int, offset: int, payload: bytes, wanted: tuple[int, int] | None
) -> tuple[int, int]:
    size = probe_size(payload, f"{source.records}: record {key} at byte {offset}")
    if wanted is None or size == wanted:
        return size
    by = "the first image" if source.property is None else str(source.property)
    raise UserError(
        f"{source.records}: record {key} at byte {offset}: the image has {size[0]}x{size[1]} "
        f"pixels, {by} says {wanted[0]}x{wanted[1]}; all must have one size"
    )


def _index_digest(source: Source) -> str | None:
    return None if source.index is None else _file_digest(source.index)


def _file_digest(path: Path, progress: Progress | None = None) -> str:
    digest = hashlib.sha256()
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()
