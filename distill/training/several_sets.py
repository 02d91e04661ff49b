"""Several image sets combined into one for a training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.gathered_images import GatheredImages
from curation.image_set import ImageSet, RootStore
from curation.joined_stores import joined, rows_in
from curation.labels import UNLABELLED, count_identities, sort_keys
from curation.subsets.sets import match_identities


@dataclass(frozen=True)
class TrainedSet:
    """One of the sets. ``labels``: whether its labels are used. ``share``: its share of every
    batch; None for a share in proportion to its size."""

    images: ImageSet
    share: float | None = None
    labels: bool = True


class SeveralSets(GatheredImages):
    """The images of all ``sources``: labelled identities in source order, then the unlabelled.

    ``match_identities`` decides which identities of sources from one store are equal; identities
    of different stores are distinct. ``which`` int16 ``[N]`` is the source of each image,
    ``places`` int64 ``[N]`` its position there. Raises ``UserError`` if image sizes differ or
    identities of one store do not match.
    """

    def __init__(self, sources: Sequence[TrainedSet]) -> None:
        self.sources = tuple(sources)
        root = joined(source.images.store for source in sources)
        rows = [rows_in(root, source.images) for source in sources]
        labels = np.concatenate(_common_labels(sources, root, rows))
        order = np.argsort(sort_keys(labels), kind="stable")
        sizes = [len(source.images) for source in sources]
        self.which = np.repeat(np.arange(len(sources), dtype=np.int16), sizes)[order]
        self.places = np.concatenate([np.arange(size) for size in sizes])[order]
        path = Path(" + ".join(str(source.images.path) for source in sources))
        super().__init__(path, root, np.concatenate(rows)[order], labels[order], _digest(sources))

    def __reduce__(self) -> Any:
        return type(self), (self.sources,)

    @property
    def name(self) -> str:
        return " + ".join(source.images.name for source in self.sources)

    @property
    def full_name(self) -> str:
        return " + ".join(source.images.full_name for source in self.sources)

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The share of every batch by source; None if sizes decide."""
        given = [source.share for source in self.sources if source.share is not None]
        return tuple(share / sum(given) for share in given) or None

    def found(self, i: int) -> tuple[ImageSet, int]:
        """The source set that has image ``i``, and its position there."""
        return self.sources[int(self.which[i])].images, int(self.places[i])


def labelled_share(images: ImageSet) -> float:
    """The share of a batch's images whose label counts."""
    labelled = len(images) - images.unlabelled
    shares = images.shares if isinstance(images, SeveralSets) else None
    if shares is None or not isinstance(images, SeveralSets):
        return labelled / len(images)
    of_each = np.bincount(images.which[:labelled], minlength=len(shares))
    sizes = np.bincount(images.which)
    return float(np.sum(np.array(shares) * of_each / sizes))


def as_one(sources: Sequence[TrainedSet]) -> ImageSet:
    """The sources as one image set; a single source whose labels count is returned unchanged."""
    first = sources[0]
    return first.images if len(sources) == 1 and first.labels else SeveralSets(sources)


def _common_labels(
    sources: Sequence[TrainedSet], root: RootStore, rows: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """For each source, int64 ``[n]``: the labels that count, equal for one person."""
    found: list[np.ndarray] = []
    stores: set[str] = set()
    identities = 0
    for source, own_rows in zip(sources, rows, strict=True):
        own = source.images.labels.astype(np.int64)
        here = {store.digest for store in source.images.store.stores}
        if not source.labels:
            own = np.full(len(own), UNLABELLED)
        elif not here & stores:  # no known identities; sorting all rows would take long
            own = np.where(own < 0, UNLABELLED, own + identities)
        else:
            known = _gathered(
                source, root, np.concatenate(rows[: len(found)]), np.concatenate(found)
            )
            partners = match_identities(known, _gathered(source, root, own_rows, own))
            own = np.where(own < 0, UNLABELLED, np.append(partners, UNLABELLED)[own])
        if source.labels:
            stores |= here
        identities = max(identities, count_identities(own))
        found.append(own)
    return found


def _gathered(
    source: TrainedSet, root: RootStore, rows: np.ndarray, labels: np.ndarray
) -> GatheredImages:
    order = np.argsort(sort_keys(labels), kind="stable")
    return GatheredImages(source.images.path, root, rows[order], labels[order], "")


def _digest(sources: Sequence[TrainedSet]) -> str:
    content = [[each.images.digest, each.share, each.labels] for each in sources]
    return hashlib.sha256(f"several sets 1 {json.dumps(content)}".encode()).hexdigest()
