"""Golden outputs: a few synthetic images with their embeddings, to check a bundle anywhere.

The images have the size of aligned faces and go through the whole preprocessing, so they also
reveal a swapped colour order or a different crop.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from curation.errors import UserError
from distill.export.config import MirrorRule
from distill.export.safe_tensors import read_arrays, write_arrays
from teachers.embedder import Embedder, normalise

GOLDEN_NAME = "golden/golden.safetensors"
EMBEDDINGS, FEATURES = "embeddings", "features"
"""Names of the golden outputs: raw upright embeddings, and unit features by the mirror rule"""
COUNT = 4
MOST = 64
"""The most images that are accepted"""
MOST_BYTES = 16 << 20
"""Bytes of the images that are written, if there is more than one"""
SEED = 20190
MINIMUM_COSINE = 0.9999
"""The lowest cosine with the embeddings of the exported network."""
INT8_COSINE = 0.99
"""The same for int8 and its own golden outputs; lower, because processors round differently."""


def golden_images(size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB ``[N, *size, 3]``: smooth waves, different per channel and equal in every run.

    There are 4 images; fewer if they would have more than 16 MiB, but at least one.
    """
    generator = np.random.default_rng(SEED)
    frequency = generator.uniform(0.5, 4, (COUNT, 3, 2))
    phase = generator.uniform(0, 2 * np.pi, (COUNT, 3))
    rows, columns = np.arange(size[0])[:, None] / size[0], np.arange(size[1]) / size[1]
    count = min(COUNT, max(1, MOST_BYTES // (3 * size[0] * size[1])))
    images = np.empty((count, *size, 3), np.uint8)
    for image, channel in product(range(count), range(3)):  # one at a time, to save memory
        down, right = frequency[image, channel]
        waves = np.sin(2 * np.pi * (down * rows + right * columns) + phase[image, channel])
        images[image, :, :, channel] = np.round(127.5 + 127.5 * waves)
    return images


def write_golden(
    folder: Path, embedder: Embedder, size: tuple[int, int], mirror: MirrorRule = "sum"
) -> None:
    """Write golden images, their raw embeddings and their features to the bundle's ``folder``.

    Raises `UserError` if the embeddings are not finite.
    """
    path = folder / GOLDEN_NAME
    path.parent.mkdir()
    images = golden_images(size)
    embeddings = embedder.embed(images)
    if not np.isfinite(embeddings).all():
        raise UserError(
            "the network gives embeddings that are not finite, so it was not exported; train it "
            "again with a lower train.learning_rate"
        )
    write_arrays(path, {"images": images, EMBEDDINGS: embeddings})
    add_golden_features(folder, embedder, mirror)


def add_golden_outputs(folder: Path, name: str, embedder: Embedder) -> None:
    """Add the embeddings of ``embedder`` under a separate ``name``.

    Raises `UserError` for a file with other contents.
    """
    path = folder / GOLDEN_NAME
    arrays = read_arrays(path)
    images, _ = _outputs_in(path, arrays, EMBEDDINGS, embedder.embedding)
    write_arrays(path, {**arrays, name: embedder.embed(images)})


def add_golden_features(folder: Path, embedder: Embedder, mirror: MirrorRule) -> None:
    """Add features to golden outputs without any, as in older bundles.

    Raises `UserError` for a file with other contents.
    """
    path = folder / GOLDEN_NAME
    arrays = read_arrays(path)
    if FEATURES in arrays:
        return
    images, embeddings = _outputs_in(path, arrays, EMBEDDINGS, embedder.embedding)
    if mirror == "sum":
        embeddings = embeddings + embedder.embed(np.ascontiguousarray(images[:, :, ::-1]))
    write_arrays(path, {**arrays, FEATURES: normalise(embeddings)})


def check_golden(
    folder: Path,
    embedder: Embedder,
    runtime: str,
    least: float = MINIMUM_COSINE,
    expected: str = EMBEDDINGS,
) -> float:
    """The lowest cosine between the outputs of ``runtime`` and the golden ones named ``expected``.

    Raises `UserError` if it is below ``least``, and for a file with other contents.
    """
    cosine = golden_cosine(folder, embedder, expected)
    if not cosine >= least:
        raise UserError(
            f"{folder / GOLDEN_NAME}: {runtime} gives different embeddings here from those it "
            f"gave when the bundle was exported: cosine {cosine:.6f}, at least {least} is "
            f"required; its files match "
            f"their checksums, so update what runs {runtime}, or use another format"
        )
    return cosine


def golden_cosine(folder: Path, embedder: Embedder, expected: str = EMBEDDINGS) -> float:
    """Like ``check_golden``, without a lower limit."""
    path = folder / GOLDEN_NAME
    images, outputs = _outputs_in(path, read_arrays(path), expected, embedder.embedding)
    try:
        return lowest_cosine(embedder.embed(images), outputs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def lowest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """The lowest cosine of corresponding rows of embeddings; -1 if the shapes differ."""
    return float(np.min(cosines(found, expected))) if found.shape == expected.shape else -1.0


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The cosines of corresponding rows of embeddings [N, D]: float64 [N]."""
    left, right = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.sum(left * right, axis=1) / np.maximum(norms, np.finfo(float).tiny)


def _outputs_in(
    path: Path, arrays: Mapping[str, np.ndarray], expected: str, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The images of untrusted ``arrays``, and their outputs, of this ``length`` each."""
    images, outputs = arrays.get("images"), arrays.get(expected)
    if images is None or outputs is None or not _are_images(images):
        raise UserError(
            f"{path}: it lacks 1 to {MOST} uint8 images [B, H, W, 3] or their {expected}; export "
            "the network again with this version"
        )
    shape = (len(images), length)
    if outputs.dtype != np.float32 or outputs.shape != shape or not np.isfinite(outputs).all():
        raise UserError(
            f"{path}: {expected} is {outputs.dtype} {list(outputs.shape)}, not finite float32 "
            f"{list(shape)}; fetch the bundle again"
        )
    return images, outputs


def _are_images(images: np.ndarray) -> bool:
    few = images.ndim == 4 and images.shape[3] == 3 and images.size > 0 and len(images) <= MOST
    return few and images.dtype == np.uint8
