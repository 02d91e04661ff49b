"""The cache of a teacher's embeddings: computed once, read by every student and generation.

The only augmentation in distillation is the mirror, so two vectors an image, upright and
mirrored, are all that the teacher can ever say, and training on the cache equals running the
teacher at every step. One folder belongs to one (teacher weights, preprocessing, store); its name
is their digest, so that a stale cache cannot be met. Views of the store share it: only the blocks
of rows that a view needs are computed.
"""

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from curation.errors import UserError
from curation.images import decode
from curation.progress import Progress
from curation.views import ImageSet
from teachers.embedder import Embedder

BLOCK = 256
UNIT, NORM, BLOCKS, ABOUT = "unit.npy", "norm.npy", "blocks.jsonl", "cache.json"


class EmbeddingCache:
    """Unit vectors ``unit`` float16 [N, 2, D] and lengths ``norm`` float32 [N, 2], memory-mapped.

    N are the rows of the store; axis 1 is upright, mirrored. Rows of blocks that no view has asked
    for yet are zero; ``cache_embeddings`` fills in what a view needs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unit = np.load(folder / UNIT, mmap_mode="r", allow_pickle=False)
        self.norm = np.load(folder / NORM, mmap_mode="r", allow_pickle=False)
        self.done = _read_blocks(folder)

    @property
    def embedding(self) -> int:
        """D, the length of the vectors."""
        return self.unit.shape[2]

    @property
    def digest(self) -> str:
        return self.folder.name

    def missing(self, rows: np.ndarray) -> list[int]:
        """The blocks that hold ``rows`` and are not computed, in order."""
        return [block for block in np.unique(rows // BLOCK).tolist() if block not in self.done]

    def verify(self, rows: np.ndarray) -> None:
        """Compare each block that holds ``rows`` with its checksum; ``UserError`` if one is off."""
        for block in np.unique(rows // BLOCK).tolist():
            if self.done.get(block) != _checksum(
                self.unit, self.norm, _rows_of(block, len(self.unit))
            ):
                raise UserError(
                    f"the embedding cache {self.folder} is damaged in rows "
                    f"{block * BLOCK}..{block * BLOCK + BLOCK - 1}; delete the folder and run again"
                )


def cache_digest(embedder: Embedder, images: ImageSet) -> str:
    """What addresses a cache: SHA-256 over the weights, the preprocessing and the store."""
    parts = ("embeddings-1", embedder.digest, embedder.preprocessing.digest, images.store.digest)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def cache_embeddings(
    embedder: Embedder, images: ImageSet, cache_root: Path, progress: Progress | None = None
) -> EmbeddingCache:
    """Open the cache of ``embedder`` on the store of ``images``, with every row of ``images``.

    Computes what is missing, block by block; stopped at any moment, it goes on from the last
    whole block. Raises ``UserError`` where the teacher gives vectors that are zero or not finite.
    """
    folder = cache_root / cache_digest(embedder, images)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not (folder / ABOUT).exists():
            _allocate(folder, embedder, images)
        cache = EmbeddingCache(folder)
        missing = cache.missing(images.rows)
        if missing:
            _compute(cache, missing, embedder, images, progress)
            cache = EmbeddingCache(folder)
    cache.verify(images.rows)
    return cache


def embed_both(embedder: Embedder, batch: np.ndarray) -> np.ndarray:
    """Raw embeddings of uint8 RGB [B, H, W, 3], upright and mirrored: float32 [B, 2, D]."""
    mirrored = np.ascontiguousarray(batch[:, :, ::-1])
    return np.stack([embedder.embed(batch), embedder.embed(mirrored)], axis=1)


def unit_and_norm(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raw [..., D] to unit vectors float16 [..., D] and lengths float32 [...]."""
    norm = np.linalg.norm(raw, axis=-1)
    return (raw / norm[..., None]).astype(np.float16), norm.astype(np.float32)


def _compute(
    cache: EmbeddingCache,
    missing: list[int],
    embedder: Embedder,
    images: ImageSet,
    progress: Progress | None,
) -> None:
    unit = np.load(cache.folder / UNIT, mmap_mode="r+", allow_pickle=False)
    norm = np.load(cache.folder / NORM, mmap_mode="r+", allow_pickle=False)
    with (cache.folder / BLOCKS).open("ab") as record:
        _drop_torn_line(record)
        for count, (rows, batch) in enumerate(_decoded_blocks(images, missing), start=1):
            raw = embed_both(embedder, batch)
            _check(raw, rows)
            unit[rows], norm[rows] = unit_and_norm(raw)
            unit.flush()
            norm.flush()
            line = {"block": missing[count - 1], "crc32": _checksum(unit, norm, rows)}
            record.write(json.dumps(line).encode() + b"\n")
            record.flush()
            os.fsync(record.fileno())
            if progress:
                progress(count, len(missing))


def _decoded_blocks(images: ImageSet, blocks: list[int]) -> Iterator[tuple[slice, np.ndarray]]:
    """Each block's rows and pixels, decoded one block ahead of the network."""
    store = images.store

    def load(block: int) -> tuple[slice, np.ndarray]:
        rows = _rows_of(block, len(store))
        pictures = [decode(store.read(i), f"image {i}") for i in range(rows.start, rows.stop)]
        return rows, _stacked(pictures, rows)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(load, blocks[0])
        for following in [*blocks[1:], None]:
            current = ahead.result()
            if following is not None:
                ahead = pool.submit(load, following)
            yield current


def _stacked(pictures: list[np.ndarray], rows: slice) -> np.ndarray:
    if len({picture.shape for picture in pictures}) > 1:
        raise UserError(f"images {rows.start}..{rows.stop - 1} differ in size; a store needs one")
    return np.stack(pictures)


def _check(raw: np.ndarray, rows: slice) -> None:
    bad = ~np.isfinite(raw).all(axis=(1, 2)) | (np.linalg.norm(raw, axis=2) == 0).any(axis=1)
    if bad.any():
        raise UserError(
            f"the teacher's embedding of image {rows.start + int(np.argmax(bad))} is zero or not "
            "finite; check the teacher's preprocessing (colour, mean, std) and its weights"
        )


def _rows_of(block: int, total: int) -> slice:
    return slice(block * BLOCK, min((block + 1) * BLOCK, total))


def _checksum(unit: np.ndarray, norm: np.ndarray, rows: slice) -> int:
    return zlib.crc32(norm[rows].tobytes(), zlib.crc32(unit[rows].tobytes()))


def _allocate(folder: Path, embedder: Embedder, images: ImageSet) -> None:
    """Make the files at their full size: a full disk shows here, not as a crash in mid-write."""
    total = len(images.store)
    _preallocated(folder / UNIT, (total, 2, embedder.embedding), np.float16)
    _preallocated(folder / NORM, (total, 2), np.float32)
    about = {
        "teacher": embedder.digest,
        "preprocessing": json.loads(embedder.preprocessing.canonical_json()),
        "store": images.store.digest,
        "images": total,
        "embedding": embedder.embedding,
        "block": BLOCK,
    }
    partial = folder / (ABOUT + ".partial")
    partial.write_text(json.dumps(about, indent=2))
    partial.replace(folder / ABOUT)


def _preallocated(path: Path, shape: tuple[int, ...], kind: type) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _read_blocks(folder: Path) -> dict[int, int]:
    """Block number to checksum, of every block whose record is whole."""
    path = folder / BLOCKS
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {record["block"]: record["crc32"] for record in records}


def _drop_torn_line(record: BinaryIO) -> None:
    """Cut off what a killed process left of its last line."""
    path = Path(record.name)
    whole = path.read_bytes().rfind(b"\n") + 1
    record.truncate(whole)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; another job that wants the same cache waits for it."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
