"""A workspace with a small set of random images, for commands that evaluate embeddings."""

from pathlib import Path

import numpy as np

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.store import Store
from curation.workspace import Workspace


def twelve_people(folder: Path, generator: np.random.Generator) -> Store:
    """``drawn/train`` in the workspace ``folder/workspace``: 12 people with 8 images each."""
    for person in range(12):
        (folder / f"images/person-{person:02}").mkdir(parents=True)
        for image in range(8):
            pixels = generator.integers(0, 255, (16, 16, 3), np.uint8)
            file = folder / f"images/person-{person:02}/{image}.jpg"
            file.write_bytes(encode_jpeg(pixels))
    datasets = Workspace(folder / "workspace").datasets / "drawn"
    datasets.mkdir(parents=True)
    return convert(folder / "images", datasets / "train.lmdb")
