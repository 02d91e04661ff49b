"""Several stores combined, the root of image sets that span more than one store."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet, RootStore, ViewStep
from curation.packed_names import PackedNames
from curation.store import Store


@dataclass(frozen=True)
class SetMeta:
    """Metadata of an image set that has no file for it."""

    images: int
    identities: int
    unlabelled: int
    digest: str


class JoinedStores(RootStore):
    """The images of all ``stores``, concatenated.

    Identities are concatenated too, so -1 may occur between labels. Raises ``UserError`` if image
    sizes differ.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = tuple(stores)
        self.path = stores[0].path
        self.meta = SetMeta(
            images=sum(map(len, stores)),
            identities=sum(store.identities for store in stores),
            unlabelled=sum(store.unlabelled for store in stores),
            digest=_digest(stores),
        )
        for store in stores[1:]:
            if store.image_size != stores[0].image_size:
                raise UserError(
                    f"{stores[0].path} has images of {_size(stores[0])} and {store.path} of "
                    f"{_size(store)}; both must have the same size: align the faces of one of "
                    "them again"
                )

    def __reduce__(self) -> tuple[type["JoinedStores"], tuple[tuple[Store, ...]]]:  # type: ignore[override]
        return type(self), (self._stores,)

    @property
    def name(self) -> str:
        return " + ".join(store.name for store in self.stores)

    @property
    def full_name(self) -> str:
        return " + ".join(store.full_name for store in self.stores)

    @property
    def store(self) -> "JoinedStores":
        return self

    @property
    def stores(self) -> tuple[Store, ...]:
        return self._stores

    @cached_property
    def begins(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.stores)])

    @property
    def image_size(self) -> tuple[int, int]:
        return self.stores[0].image_size

    @property
    def history(self) -> tuple[ViewStep, ...]:
        return ()

    @cached_property
    def rows(self) -> np.ndarray:
        return np.arange(len(self), dtype=np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        first, parts = 0, []
        for store in self.stores:
            parts.append(np.where(store.labels < 0, store.labels, store.labels + first))
            first += store.identities
        return np.concatenate(parts).astype(np.int32)

    @cached_property
    def source_keys(self) -> np.ndarray:
        """int64 ``[N]``: keys of different stores may be equal."""
        return np.concatenate([store.source_keys for store in self.stores])

    @cached_property
    def source_labels(self) -> np.ndarray:
        """int64 ``[identities]``: labels of different stores may be equal."""
        return np.concatenate([store.source_labels for store in self.stores])

    @cached_property
    def checksums(self) -> np.ndarray:
        return np.concatenate([store.checksums for store in self.stores])

    @cached_property
    def source_names(self) -> PackedNames | None:
        """The names of all images; None if a store has no names."""
        names = PackedNames()
        for store in self.stores:
            if store.source_names is None:
                return None
            names.extend(store.source_names)
        return names

    def found(self, i: int) -> tuple[ImageSet, int]:
        number = int(np.searchsorted(self.begins, i, side="right")) - 1
        return self.stores[number], i - int(self.begins[number])

    def read_ahead(self, first: int, last: int) -> None:
        for store, begin in zip(self.stores, self.begins.tolist(), strict=False):
            here = max(first - begin, 0), min(last - begin, len(store) - 1)
            if here[0] <= here[1]:
                store.read_ahead(*here)

    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        which = np.searchsorted(self.begins, indices, side="right") - 1
        own = indices - self.begins[which]
        files = {
            number: self.stores[number].read_many(own[which == number])
            for number in np.unique(which).tolist()
        }
        for number in which.tolist():
            yield next(files[number])


def joined(roots: Iterable[RootStore]) -> RootStore:
    """All stores of ``roots`` as one root, without duplicates, in order."""
    found = list({store.digest: store for root in roots for store in root.stores}.values())
    return found[0] if len(found) == 1 else JoinedStores(found)


def rows_in(root: RootStore, images: ImageSet) -> np.ndarray:
    """int64 ``[N]``: the rows of the images in ``root``, which must contain all their stores."""
    begins = dict(zip((store.digest for store in root.stores), root.begins.tolist(), strict=False))
    own = images.store
    shift = np.array([begins[store.digest] for store in own.stores]) - own.begins[:-1]
    return images.rows + shift[np.searchsorted(own.begins, images.rows, side="right") - 1]


def count_common(images: ImageSet, others: ImageSet) -> int:
    """The number of images that are also in ``others``."""
    known = {store.digest for store in others.store.stores}
    if not any(store.digest in known for store in images.store.stores):
        return 0
    root = joined([images.store, others.store])
    return int(np.isin(rows_in(root, images), rows_in(root, others)).sum())


def _digest(stores: Sequence[Store]) -> str:
    text = "".join(f"{store.digest}\n" for store in stores)
    return hashlib.sha256(f"stores 1\n{text}".encode()).hexdigest()


def _size(store: Store) -> str:
    height, width = store.image_size
    return f"{width}x{height}"
