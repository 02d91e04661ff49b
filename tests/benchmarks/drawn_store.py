"""A store of drawn images of the usual size, for benchmarks without real faces."""

from pathlib import Path

import numpy as np

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.store import Store

SIDE = 112
IMAGES_EACH = 8


def drawn_store(folder: Path, images: int) -> Store:
    """Blurred noise with some grain, about as many bytes as a photograph of a face."""
    random = np.random.default_rng(0)

    def draw() -> bytes:
        coarse = np.kron(random.uniform(40, 215, (7, 7, 3)), np.ones((16, 16, 1)))
        picture = coarse + random.normal(0, 12, (SIDE, SIDE, 3))
        return encode_jpeg(picture.clip(0, 255).astype(np.uint8))

    write_layout(
        folder / "drawn", [(draw(), i // IMAGES_EACH) for i in range(images)], (SIDE, SIDE)
    )
    return convert(folder / "drawn", folder / "drawn.lmdb")
