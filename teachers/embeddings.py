"""The cache of a teacher's embeddings: computed once, read by every student and generation.

Training on the cache equals running the teacher at every step: the cache holds the embeddings of
each image upright and mirrored, and the pixels of an augmented view are reproducible. A folder
belongs to one (teacher weights, preprocessing, store) and, for augmented views, to one (strengths,
view number). Its name is their digest, so that a stale cache is never used. Data sets of one store
share it; only the rows that a data set needs are computed.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file, nearest_folder
from curation.image_set import ImageSet
from curation.locks import take
from curation.progress import Progress
from curation.store import Store
from teachers.cache_files import ABOUT, LOCK, CacheAbout, Precision, damaged, open_to_lock
from teachers.embedder import Embedder
from teachers.embedding_cache import EmbeddingCache, JoinedCaches
from teachers.ensemble import CombinedCaches, Ensemble
from teachers.filling import Pictures, RowSource, fill
from teachers.team import Team, fill_with_team

if TYPE_CHECKING:
    from teachers.augment.augmentation import NumberedView

CLAIM = 256
"""Rows per claim in new caches, and per batch: the work lost when a process is killed."""


@dataclass(frozen=True)
class Answers:
    """Which embeddings of each image to compute, and how to store them.

    ``view`` None is the image, upright and mirrored.
    """

    view: "NumberedView | None" = None
    precision: Precision = "float16"


PLAIN = Answers()


def cache_digest(embedder: Embedder, images: ImageSet, answers: Answers = PLAIN) -> str:
    """The address of a cache: SHA-256 over the weights, the preprocessing and the store.

    Includes the augmented view, and the precision if it is not the default. For images from several
    stores, each with its own cache, it is the digest of the list of their digests.
    """
    digests = [_digest(embedder, store, answers) for store in images.store.stores]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("|".join(digests).encode()).hexdigest()
    )


def _digest(embedder: Embedder, store: Store, answers: Answers) -> str:
    """``cache_digest`` for one store."""
    parts = ["embeddings-2", embedder.digest, embedder.preprocessing.digest, store.digest]
    if answers.view is not None:
        parts += ["view", answers.view.digest]
    if answers.precision != PLAIN.precision:
        parts.append(answers.precision)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def cache_embeddings(
    embedder: Embedder,
    images: ImageSet,
    cache_root: Path,
    progress: Progress | None = None,
    team: Team | None = None,
    answers: Answers = PLAIN,
) -> EmbeddingCache | JoinedCaches:
    """Open the cache of ``embedder`` on the store of ``images``, with every row of ``images``.

    For images from several stores, the caches of all stores are combined.

    Computes missing rows of ``images`` and reads no other images of the store. After an
    interruption it continues from the last batch of rows. Processes that call it at the same time,
    such as the ranks of a job, share the work; if one dies, the others take over. Ranks of several
    machines form a ``team``, and each of them calls this. Embeddings of an ensemble are combined
    from the caches of its members. Progress counts images, on the first rank of a team. Raises
    ``UserError`` if an image or the cache is damaged, or if the teacher returns vectors that are
    zero or not finite.
    """
    parts, root = _parts(images), images.store
    total = len(images)
    done_before = 0
    caches: list[EmbeddingCache] = []
    for part in parts:

        def tell(done: int, of: int, before: int = done_before) -> None:
            if progress is not None:
                progress(before + done, total if len(parts) > 1 else of)

        caches.append(_cache_part(embedder, part, cache_root, tell, team, answers))
        done_before += int(part.wanted.sum())
    if len(caches) == 1:
        return caches[0]
    return JoinedCaches(caches, root.begins, cache_digest(embedder, images, answers))


@dataclass(frozen=True)
class _OfStore:
    """The wanted rows of one store, bool ``[N]``; ``begin`` is its first row among all stores."""

    store: Store
    wanted: np.ndarray
    begin: int


def _parts(images: ImageSet) -> list[_OfStore]:
    """The rows that belong to the set, by store; one byte per row."""
    root = images.store
    wanted = np.ones(len(images), bool)
    if images is not root:
        wanted = np.zeros(len(root), bool)
        wanted[images.rows] = True
    begins = root.begins.tolist()
    return [
        _OfStore(store, wanted[begin:end], begin)
        for store, (begin, end) in zip(root.stores, pairwise(begins), strict=True)
    ]


def _cache_part(
    embedder: Embedder,
    part: _OfStore,
    cache_root: Path,
    progress: Progress | None,
    team: Team | None,
    answers: Answers,
) -> EmbeddingCache:
    """``cache_embeddings`` for the images of one store."""
    store, wanted = part.store, part.wanted
    folder = cache_root / _digest(embedder, store, answers)
    is_first = team is None or team.rank == 0
    missing = np.zeros(0, bool)
    if is_first:
        cache = _opened(folder, _about(embedder, store, answers))
        missing = cache.table.missing_of(wanted)
    if missing.any() if team is None else team.from_first(bool(missing.any())):
        source: RowSource
        if isinstance(embedder, Ensemble):
            caches = [
                _cache_part(member, part, cache_root, progress, team, answers)
                for member in embedder.members
            ]
            source = CombinedCaches(embedder, caches, store)
        else:
            source = Pictures(embedder, store, answers.view, part.begin)
        if team is None:
            fill(cache, missing, source, progress)
        else:
            fill_with_team(cache if is_first else None, missing, source, progress, team)
    if not is_first:
        cache = EmbeddingCache(folder)  # after it is complete: files are mapped as they are
    cache.verify(wanted)
    return cache


def _opened(folder: Path, about: CacheAbout) -> EmbeddingCache:
    """Open the cache, creating it if necessary; ``UserError`` if it is a different one."""
    if not (folder / ABOUT).exists():
        _allocate(folder, about)
    cache = EmbeddingCache(folder)
    if cache.about != about.model_copy(update={"claim": cache.about.claim}):
        raise damaged(folder, f"{ABOUT} belongs to another cache")
    return cache


def cached_rows(
    embedder: Embedder, images: ImageSet, cache_root: Path, rows: np.ndarray
) -> np.ndarray | None:
    """The upright unit vectors float16 [R, D] of these rows; None if they are not all computed."""
    caches = []
    root = images.store
    for number, store in enumerate(root.stores):
        folder = cache_root / _digest(embedder, store, PLAIN)
        if not (folder / ABOUT).exists():
            return None
        cache = EmbeddingCache(folder)
        first, last = root.begins[number : number + 2]
        own = rows[(rows >= first) & (rows < last)] - first
        if len(cache.table.missing(own)):
            return None
        if len(own):
            cache.verify_rows(own)
        caches.append(cache)
    return JoinedCaches(caches, root.begins, "").vectors(rows, 0)


def missing_bytes(
    embedder: Embedder, images: ImageSet, cache_root: Path, needed: Sequence[Answers]
) -> int:
    """The disk space of the caches of ``needed`` that do not exist yet."""
    members = embedder.members if isinstance(embedder, Ensemble) else []
    missing = [
        _about(each, store, answers)
        for each in (embedder, *members)
        for answers in needed
        for store in images.store.stores
        if not (cache_root / _digest(each, store, answers) / ABOUT).exists()
    ]
    return sum(about.size for about in missing)


def missing_pictures(
    embedder: Embedder, images: ImageSet, cache_root: Path, needed: Sequence[Answers]
) -> int:
    """The number of images of ``needed`` that the teacher has not embedded yet."""
    missing, parts = 0, _parts(images)
    for answers in needed:
        for part in parts:
            folder = cache_root / _digest(embedder, part.store, answers)
            about, wanted = _about(embedder, part.store, answers), part.wanted
            if (folder / ABOUT).exists():
                wanted = EmbeddingCache(folder).table.missing_of(wanted)
            missing += about.answers * int(wanted.sum())
    return missing


def check_room(
    embedder: Embedder, images: ImageSet, cache_root: Path, needed: Sequence[Answers] = (PLAIN,)
) -> None:
    """Raise ``UserError`` if the disk has no room for the caches that do not exist yet."""
    wanted = missing_bytes(embedder, images, cache_root, needed)
    free = shutil.disk_usage(nearest_folder(cache_root)).free
    if wanted > free:
        raise UserError(
            f"the teacher's embeddings of {len(images.store):,} images take {wanted / 2**20:,.1f} "
            f"MiB in {cache_root}, and {free / 2**20:,.1f} MiB are free; free some space"
        )


def _about(embedder: Embedder, store: Store, answers: Answers) -> CacheAbout:
    return CacheAbout(
        format_version=2,
        teacher=embedder.digest,
        preprocessing=json.loads(embedder.preprocessing.canonical_json()),
        store=store.digest,
        images=len(store),
        embedding=embedder.embedding,
        claim=CLAIM,
        view=None if answers.view is None else answers.view.digest,
        precision=answers.precision,
    )


def _allocate(folder: Path, about: CacheAbout) -> None:
    """Allocate the files at full size: a full disk is an error here instead of a crash later."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the embedding cache {folder}: {error.filename}: {error.strerror}"
        ) from None
    with _locked(folder):
        if (folder / ABOUT).exists():  # created by another process while this one waited
            return
        for name, (kind, shape) in about.arrays().items():
            _preallocated(folder / name, shape, kind)
        with atomic_file(folder / ABOUT) as file:
            # Omits defaults, so that caches of older versions have identical files.
            file.write(about.model_dump_json(indent=2, exclude_defaults=True).encode())


def _preallocated(path: Path, shape: tuple[int, ...], kind: np.dtype) -> None:
    try:
        np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        with suppress(OSError):  # a folder
            path.unlink()
        wanted = math.prod(shape) * kind.itemsize / 2**20
        raise UserError(
            f"cannot write the embedding cache {path.parent}: {error.strerror} ({path.name} takes "
            f"{wanted:,.0f} MiB); free some space and run again"
        ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open_to_lock(folder, LOCK) as file:
        take(file.fileno(), math.inf)
        yield
