"""Small training sets of noise images: the conversion copies bytes regardless of content."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.store import Store

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def mxnet_written() -> Path:
    """Files written by MXNet 1.9.1; see data/make_with_mxnet.py."""
    return DATA


@pytest.fixture(scope="session")
def noise_images() -> list[bytes]:
    """Forty different JPEG files of 24x20 pixels (height x width)."""
    random = np.random.default_rng(0)
    return [encode_jpeg(random.integers(0, 256, (24, 20, 3), dtype=np.uint8)) for _ in range(40)]


WriteSource = Callable[..., Path]


@pytest.fixture
def write_source(tmp_path: Path, noise_images: list[bytes]) -> WriteSource:
    """Write a training set with the given number of images per label, and return its folder."""

    def write(counts: dict[int, int], folder: str = "source", array_labels: bool = False) -> Path:
        labels = [label for label, count in counts.items() for _ in range(count)]
        images = (
            (noise_images[number % len(noise_images)], label) for number, label in enumerate(labels)
        )
        write_layout(tmp_path / folder, images, (24, 20), array_labels)
        return tmp_path / folder

    return write


@pytest.fixture
def store(write_source: WriteSource, tmp_path: Path) -> Store:
    """Five identities with 4, 1, 6, 2 and 3 images; their source labels are 2, 3, 5, 7 and 11."""
    source = write_source({2: 4, 3: 1, 5: 6, 7: 2, 11: 3})
    return convert(source, tmp_path / "train.lmdb")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real faces and of MXNet's full files, if this machine has it."""
    folder = os.environ.get("FACE_DISTILL_REAL_DATA")
    if not folder:
        pytest.skip("FACE_DISTILL_REAL_DATA does not name a folder of real faces")
    return Path(folder)
