"""The teacher's embeddings of the images of a batch, from a cache or computed online."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.image_set import ImageSet
from distill.training.views import PLAIN, ShownViews
from teachers.embedder import Embedder, unit_and_norm
from teachers.embedding_cache import Embeddings
from teachers.usable import check_embeddings


@dataclass(frozen=True)
class CachedAnswers:
    """The cached teacher embeddings of each image, its mirror image and each augmented view.

    ``views`` None: every view uses the embedding of the plain image.
    """

    plain: Embeddings
    views: Sequence[Embeddings] | None = ()
    least_cosine: float = -1.0

    @property
    def embedding(self) -> int:
        """D, the width of the embeddings."""
        return self.plain.embedding

    def look_up(self, shown: ShownViews) -> np.ndarray:
        """Unit vectors float16 [n, D].

        A view whose embedding is too far from that of the plain image is replaced by the plain
        image: its entry in ``shown.numbers`` becomes PLAIN.
        """
        answers = self.plain.vectors(shown.rows, shown.mirrored.astype(np.int64))
        if self.views is None:
            return answers
        for number in np.unique(shown.numbers[shown.numbers != PLAIN]).tolist():
            places = np.flatnonzero(shown.numbers == number)
            found = self.views[number].vectors(shown.rows[places], 0)
            usable = shown.mixed[places] | (cosines(found, answers[places]) >= self.least_cosine)
            answers[places[usable]] = found[usable]
            shown.numbers[places[~usable]] = PLAIN
        return answers


@dataclass(frozen=True)
class OnlineAnswers:
    """The teacher itself, which embeds the pixels of each batch."""

    teacher: Embedder
    least_cosine: float = -1.0

    @property
    def embedding(self) -> int:
        """D, the width of the embeddings."""
        return self.teacher.embedding

    def embed(
        self, pictures: np.ndarray, images: ImageSet, indices: np.ndarray, views: np.ndarray
    ) -> np.ndarray:
        """Unit vectors float16 [n, D] of uint8 RGB [n, H, W, 3], rounded like those of a cache.

        ``pictures`` are ``views`` [n] of the images ``indices`` [n]: see `check_embeddings`, which
        raises ``UserError`` if an embedding is zero or not finite.
        """
        raw = check_embeddings(self.teacher.embed(pictures), images, indices, views)
        return unit_and_norm(raw)[0]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rowwise cosines float32 [n] of unit vectors [n, D]."""
    return np.einsum("nd,nd->n", left.astype(np.float32), right.astype(np.float32))
