"""A network in the format of a bundle, as a function and as an `Embedder`."""

from collections.abc import Callable

import numpy as np

from curation.errors import UserError
from curation.wording import counted
from teachers.preprocessing import Preprocessing

Embed = Callable[[np.ndarray], np.ndarray]
"""Maps normalised pixels float32 [N, 3, H, W] to raw embeddings float32 [N, D], for any N >= 1."""


def one_at_a_time(run: Embed) -> Embed:
    """Run a network that takes one image on each image of a batch."""
    return lambda pixels: np.concatenate(
        [run(pixels[i : i + 1]).astype(np.float32) for i in range(len(pixels))]
    )


class ExportedNetwork:
    """The result of ``Exporter.run`` as an `Embedder`, with its ``digest`` if it has one."""

    on_gpu = False

    def __init__(
        self, run: Embed, preprocessing: Preprocessing, gives_features: bool = False
    ) -> None:
        self.preprocessing = preprocessing
        self.digest: str = getattr(run, "digest", "")
        self._run = run
        self._given = preprocessing.resize if gives_features else preprocessing
        self.embedding = self.embed(np.zeros((1, *preprocessing.size, 3), np.uint8)).shape[1]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """See `Embedder.embed`."""
        embeddings = self._run(self._given(images))
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise UserError(
                f"{counted(len(images), 'image')} gave embeddings {list(embeddings.shape)}"
            )
        return embeddings.astype(np.float32)
