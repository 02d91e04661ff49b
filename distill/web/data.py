"""Opens the stores and views of a workspace, read-only."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet, RootStore
from curation.images import decode, encode_jpeg
from curation.quality import MEASURES
from curation.report.funnel import FunnelRow, funnel
from curation.store import Store
from curation.suggestions import hint
from curation.views import View, open_images
from curation.workspace import Workspace

SIDE = 112
"""Pixels of a thumbnail's longer side"""
SAMPLED = 1000
"""Images measured for a histogram"""
MOST_FOUND = 100
_MOST_OPEN = 8
_TOGETHER = 1 << 12
"""Vectors or names compared at once: few enough for the cache of a core"""


@dataclass(frozen=True)
class Family:
    """A store with its views, or a set that cannot be opened, with the reason."""

    name: str
    rows: tuple[FunnelRow, ...] = ()
    addresses: dict[str, str] | None = None
    """Page addresses of the sets in ``rows``"""
    problem: str | None = None


class DataSets:
    """The sets below ``datasets/``, named as in job specs; each is opened once."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.datasets
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[object, Store | View]] = OrderedDict()

    def names(self) -> dict[str, Path]:
        """Every store and view, ``FOLDER/NAME``; a view named like a store keeps its suffix."""
        found: dict[str, Path] = {}
        for path in [
            *sorted(self._folder.glob("*/*.lmdb")),
            *sorted(self._folder.glob("*/*.view")),
        ]:
            name = f"{path.parent.name}/{path.stem}"
            found[f"{path.parent.name}/{path.name}" if name in found else name] = path
        return found

    def open(self, name: str) -> Store | View:
        """Open a set; ``UserError`` if it does not exist or is damaged."""
        names = self.names()
        if (path := names.get(name)) is None:
            raise UserError(
                f"there is no store or view {name[:80]!r} in {self._folder}"
                f"{hint(name, sorted(names), 'the page Data shows them')}"
            )
        status = path.stat()
        state = (status.st_mtime_ns, status.st_ino)
        with self._lock:
            kept = self._open.pop(name, None)
            if kept is None or kept[0] != state:
                kept = state, open_images(path)
            self._open[name] = kept
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return kept[1]

    def families(self) -> Iterator[Family]:
        """Each store with its views, and each set that cannot be opened."""
        opened: dict[str, list[tuple[str, ImageSet]]] = {}
        for name, path in self.names().items():
            try:
                images = open_images(path)
                root = images.store.stores[0].path.resolve()
            except (UserError, OSError) as error:
                yield Family(name, problem=str(error))
                continue
            opened.setdefault(str(root), []).append((name, images))
        for members in opened.values():
            members.sort(key=lambda member: (isinstance(member[1], View), member[0]))
            rows = tuple(funnel([images for _, images in members]))
            addresses = {images.path.name: address(name) for name, images in members}
            yield Family(members[0][0], rows, addresses)


def address(name: str) -> str:
    """The page address of a set; the folder name may contain any characters."""
    return f"/data/{quote(name)}"


def picture(images: ImageSet, i: int, side: int = SIDE) -> bytes | None:
    """Image ``i`` as a small JPEG; ``None`` if it cannot be decoded."""
    import cv2

    try:
        pixels = decode(images.read(i))
    except UserError:
        return None
    scale = min(1.0, side / max(pixels.shape[:2]))
    if scale < 1:
        size = [max(1, round(length * scale)) for length in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return encode_jpeg(pixels, 85)


def identity_of(images: ImageSet, i: int) -> int | None:
    """The identity of an image; ``None`` if it has no label."""
    label = int(images.labels[i])
    return None if label < 0 else label


def by_size(images: ImageSet, order: str, first: int, count: int) -> list[int]:
    """Identities by descending or ascending number of images, or in their own order."""
    if order not in ("most", "fewest"):
        return list(range(first, min(first + count, images.identities)))
    sizes = np.diff(images.offsets)
    ranked = np.argsort(-sizes if order == "most" else sizes, kind="stable")
    return [int(each) for each in ranked[first : first + count]]


@dataclass(frozen=True)
class Found:
    """Search results."""

    identities: list[int]
    images: list[int]


def search(images: ImageSet, words: str) -> Found:
    """Search a number as identity, source label or image key; anything else as a name."""
    words = words.strip()
    if words.isascii() and words.isdigit() and len(words) < 19:
        number = int(words)
        people = np.flatnonzero(images.source_labels == number)[:MOST_FOUND].tolist()
        own = [number] if number < images.identities else []
        keys = np.flatnonzero(images.source_keys == number)[:MOST_FOUND].tolist()
        return Found(list(dict.fromkeys([*own, *people])), keys)
    return Found([], _by_name(images, words.casefold()))


def _by_name(images: ImageSet, words: str) -> list[int]:
    names = images.store.source_names
    if names is None or not words:
        return []
    found: list[int] = []
    for first in range(0, len(images), _TOGETHER):  # a word like "jpg" is in millions of names
        rows = images.rows[first : first + _TOGETHER].tolist()
        found += [first + i for i, name in enumerate(names.at(rows)) if words in name.casefold()]
        if len(found) >= MOST_FOUND:
            break
    return found[:MOST_FOUND]


def name_of(images: ImageSet, i: int) -> str | None:
    """The path of an image in its source."""
    names = images.store.source_names
    return None if names is None else names[int(images.rows[i])]


@dataclass(frozen=True)
class MeasuredSample:
    """A measure of a sample of a set's images, in bins of equal width."""

    counts: list[int]
    """The first and the last bin also count the values beyond them"""
    edges: list[float]
    """From the 1st to the 99th percentile"""
    quantiles: dict[str, float]
    lowest: list[int]
    """Images with the lowest values, the lowest first"""
    highest: list[int]
    sampled: int


def measured(images: ImageSet, measure: str, bins: int = 24) -> MeasuredSample:
    """A measure of ``curation.quality.MEASURES`` on images sampled evenly from the set."""
    count = min(SAMPLED, len(images))
    places = np.linspace(0, len(images) - 1, count).astype(np.int64)
    of = MEASURES[measure]
    values = np.full(count, np.nan)
    for at, data in enumerate(images.read_many(places)):
        try:
            values[at] = of(decode(data))
        except UserError:
            continue
    known = np.flatnonzero(~np.isnan(values))
    places, values = places[known], values[known]
    if not len(values):
        return MeasuredSample([], [], {}, [], [], 0)
    seen = np.quantile(values, [0.01, 0.99])  # one broken image would compress all others
    counts, edges = np.histogram(values.clip(*seen), bins)
    order = np.argsort(values, kind="stable")
    shares = {"1 %": 0.01, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "99 %": 0.99}
    quantiles = {name: float(np.quantile(values, share)) for name, share in shares.items()}
    ends = places[order[:8]].tolist(), places[order[::-1][:8]].tolist()
    return MeasuredSample(counts.tolist(), edges.tolist(), quantiles, *ends, len(values))


@dataclass(frozen=True)
class Near:
    """An identity near a face, with its most similar image and that image's cosine."""

    identity: int
    image: int
    similarity: float


def nearest(cache: Path, images: ImageSet, i: int, count: int = 12) -> tuple[str, list[Near]]:
    """The teacher, and the identities nearest to image ``i`` by its cached embeddings.

    Empty if no cache below ``cache`` has this image. Compares every image of the set that the cache
    has, one block at a time; an identity ranks by its nearest image.
    """
    for folder in sorted(cache.glob("*/cache.json")):
        found = _nearest_in(folder.parent, images, i, count)
        if found is not None:
            return found
    return "", []


def _nearest_in(
    folder: Path, images: ImageSet, i: int, count: int
) -> tuple[str, list[Near]] | None:
    from teachers.embedding_cache import EmbeddingCache

    root: RootStore = images.store
    try:
        cache = EmbeddingCache(folder)
    except UserError:
        return None
    is_of_store = len(root.stores) == 1 and cache.about.store == root.stores[0].digest
    if not is_of_store or cache.about.view is not None:
        return None
    rows = images.rows
    own = cache.vectors(rows[i : i + 1], 0)[0].astype(np.float32)
    if not own.any():  # not embedded yet
        return None
    labelled, offsets = len(images) - images.unlabelled, images.offsets
    similar = np.full(labelled, -np.inf, np.float32)
    for first in range(0, labelled, _TOGETHER):
        here = slice(first, min(first + _TOGETHER, labelled))
        similar[here] = cache.vectors(rows[here], 0).astype(np.float32) @ own
    similar[similar == 0] = -np.inf  # not embedded yet
    if i < labelled:
        similar[i] = -np.inf
    best = np.maximum.reduceat(similar, offsets[:-1]) if labelled else similar
    near = []
    for identity in np.argsort(-best, kind="stable")[:count].tolist():
        if np.isfinite(best[identity]):
            begin, end = offsets[identity : identity + 2].tolist()
            nearest_image = begin + int(np.argmax(similar[begin:end]))
            near.append(Near(identity, nearest_image, float(best[identity])))
    return cache.about.teacher, near
