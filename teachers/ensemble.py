"""Several teachers combined: each has its own preprocessing, and their embeddings are merged."""

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from curation.errors import UserError
from curation.image_set import RootStore
from teachers.embedder import Embedder, normalise
from teachers.embedding_cache import EmbeddingCache
from teachers.preprocessing import Preprocessing
from teachers.usable import check_embeddings

Combination = Literal["concatenate", "average"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)


class Ensemble:
    """An embedder composed of embedders, each with its own preprocessing.

    The members' unit vectors are concatenated, or averaged if they share one embedding space
    (snapshots of one training, of equal width), and normalised again. The norm of the result is the
    mean norm of the members, which still distinguishes faces from blur. ``digest`` covers the
    members' weights and preprocessings, their order and the combination. ``preprocessing`` is only
    the size to which images may be scaled beforehand: a square, of which each member sees its part.
    """

    def __init__(self, members: Sequence[Embedder], combine: Combination) -> None:
        lengths = [member.embedding for member in members]
        if combine == "average" and len(set(lengths)) > 1:
            raise UserError(
                f'"average" needs embeddings of one length, but the members have '
                f'{", ".join(map(str, lengths))}; use combine = "concatenate"'
            )
        self.members, self.combine = tuple(members), combine
        self.embedding = sum(lengths) if combine == "concatenate" else lengths[0]
        self.digest = _digest(members, combine)
        side = max(max(member.preprocessing.size) for member in members)
        self.preprocessing = Preprocessing.ours((side, side))
        self.on_gpu = any(member.on_gpu for member in members)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """See `Embedder.embed`."""
        raw = [member.embed(images) for member in self.members]
        norms = [np.linalg.norm(each, axis=-1) for each in raw]
        return self.combined([normalise(each) for each in raw], norms)

    def combined(self, units: Sequence[np.ndarray], norms: Sequence[np.ndarray]) -> np.ndarray:
        """The members' unit vectors [..., D_i] and norms [...] as embeddings float32 [..., D]."""
        parts = [unit.astype(np.float32) for unit in units]
        together = (
            np.concatenate(parts, axis=-1)
            if self.combine == "concatenate"
            else np.mean(parts, axis=0)
        )
        length = np.stack(norms).mean(axis=0, keepdims=True, dtype=np.float32)
        return normalise(together) * np.moveaxis(length, 0, -1)


class CombinedCaches:
    """An ensemble's embeddings from its members' caches, without a network (a ``RowSource``)."""

    def __init__(
        self, ensemble: Ensemble, caches: Sequence[EmbeddingCache], store: RootStore
    ) -> None:
        self.ensemble, self.caches, self.store = ensemble, caches, store

    def load(self, rows: np.ndarray) -> np.ndarray:
        """Raw embeddings float32 [rows, 2, D]."""
        units = [cache.vectors(rows, slice(None)) for cache in self.caches]
        norms = [cache.norm[rows] for cache in self.caches]
        return check_embeddings(self.ensemble.combined(units, norms), self.store, rows)

    def embed(self, loaded: np.ndarray) -> np.ndarray:
        return loaded


def _digest(members: Sequence[Embedder], combine: Combination) -> str:
    parts = [part for each in members for part in _parts(each)]
    return hashlib.sha256("|".join(["ensemble-1", combine, *parts]).encode()).hexdigest()


def _parts(member: Embedder) -> list[str]:
    height, width = member.preprocessing.size
    # Members with another aspect ratio were given squeezed images by earlier versions.
    cropped = [] if height == width else ["cropped"]
    return [member.digest, member.preprocessing.digest, *cropped]
