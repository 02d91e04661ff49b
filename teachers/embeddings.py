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
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file
from curation.progress import Progress
from curation.views import ImageSet
from teachers.block_table import BLOCKS
from teachers.embedder import Embedder
from teachers.embedding_cache import ABOUT, EmbeddingCache, open_table
from teachers.ensemble import CombinedCaches, Ensemble
from teachers.filling import NORM, UNIT, BlockSource, Pictures, fill
from teachers.helpers import helped, other_gpus

BLOCK = 256
"""Rows of a block in new caches; the block is what is computed, checked and resumed."""


def cache_digest(embedder: Embedder, images: ImageSet) -> str:
    """What addresses a cache: SHA-256 over the weights, the preprocessing and the store."""
    parts = ("embeddings-1", embedder.digest, embedder.preprocessing.digest, images.store.digest)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def cache_embeddings(
    embedder: Embedder,
    images: ImageSet,
    cache_root: Path,
    progress: Progress | None = None,
    helpers: int | None = None,
) -> EmbeddingCache:
    """Open the cache of ``embedder`` on the store of ``images``, with every row of ``images``.

    Computes what is missing, block by block; stopped at any moment, it goes on from the last
    whole block. Several processes that call it at once share the work. ``helpers`` further ones
    are started for it: as many as there are other GPUs unless said. What an ensemble says is put
    together from the caches of its members. Raises ``UserError`` where the teacher gives vectors
    that are zero or not finite, and where the cache is damaged.
    """
    folder = cache_root / cache_digest(embedder, images)
    if not _is_allocated(folder):
        _allocate(folder, embedder, images)
    table = open_table(folder, writable=True)
    missing = table.missing(table.holding(images.rows))
    if len(missing):
        count = other_gpus(embedder) if helpers is None else helpers
        source: BlockSource
        if isinstance(embedder, Ensemble):
            caches = [
                cache_embeddings(member, images, cache_root, progress, count)
                for member in embedder.members
            ]
            source, count = CombinedCaches(embedder, caches), 0
        else:
            source = Pictures(embedder, images.store)
        with helped(min(count, len(missing) - 1), cache_embeddings, embedder, images, cache_root):
            fill(folder, table, missing, source, progress)
    cache = EmbeddingCache(folder)
    cache.verify(images.rows)
    return cache


def _is_allocated(folder: Path) -> bool:
    return (folder / ABOUT).exists() and (folder / BLOCKS).exists()


def _allocate(folder: Path, embedder: Embedder, images: ImageSet) -> None:
    """Make the files at their full size: a full disk shows here, not as a crash in mid-write."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if _is_allocated(folder):  # by another process, while this one waited
            return
        total = len(images.store)
        _preallocated(folder / UNIT, (total, 2, embedder.embedding), np.float16)
        _preallocated(folder / NORM, (total, 2), np.float32)
        _preallocated(folder / BLOCKS, (-(-total // BLOCK),), np.uint64)
        about = {
            "teacher": embedder.digest,
            "preprocessing": json.loads(embedder.preprocessing.canonical_json()),
            "store": images.store.digest,
            "images": total,
            "embedding": embedder.embedding,
            "block": BLOCK,
        }
        with atomic_file(folder / ABOUT) as file:
            file.write(json.dumps(about, indent=2).encode())


def _preallocated(path: Path, shape: tuple[int, ...], kind: type) -> None:
    try:
        np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        wanted = math.prod(shape) * np.dtype(kind).itemsize / 2**20
        raise UserError(
            f"cannot write the embedding cache {path.parent}: {error.strerror} ({path.name} takes "
            f"{wanted:,.0f} MiB); free some space and run again"
        ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
