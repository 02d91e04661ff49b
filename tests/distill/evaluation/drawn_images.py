"""An embedder without a network, and an image set in memory, for tests of evaluation."""

import numpy as np

from curation.images import encode_jpeg
from teachers.preprocessing import Preprocessing


class GridEmbedder:
    """The mean colours of a 4x4 grid, centred: an embedder of 48 dimensions without a network."""

    digest = "grid"
    embedding = 48
    preprocessing = Preprocessing.ours((16, 16))

    def __init__(self) -> None:
        self.images_seen = 0

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.images_seen += len(images)
        cells = images.reshape(len(images), 4, 4, 4, 4, 3).mean(axis=(2, 4))
        flat = cells.reshape(len(images), 48).astype(np.float32)
        return flat - flat.mean(axis=1, keepdims=True)


class DrawnImages:
    """An image set in memory: each identity has a pattern, each image adds noise to it."""

    name, digest = "drawn", "d" * 64

    def __init__(self, identities: int, images_each: int) -> None:
        generator = np.random.default_rng(0)
        self.labels = np.repeat(np.arange(identities), images_each)
        patterns = generator.uniform(40, 215, (identities, 16, 16, 3))
        noise = generator.normal(0, 20, (len(self.labels), 16, 16, 3))
        pixels = np.clip(patterns[self.labels] + noise, 0, 255).astype(np.uint8)
        self.encoded = [encode_jpeg(image, 100) for image in pixels]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, i: int) -> bytes:
        return self.encoded[i]
