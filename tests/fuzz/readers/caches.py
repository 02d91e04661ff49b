"""Embedding caches, complete and partly filled, also with valid row checksums."""

import io
import random
import tempfile
from pathlib import Path

import numpy as np

from curation.store import Store
from teachers.augment.augmentation import Augmentation, NumberedView
from teachers.augment.strengths import Strengths
from teachers.embeddings import Answers, cache_digest, cache_embeddings
from teachers.preprocessing import Preprocessing
from teachers.row_table import checksums
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.small_sets import npy, small_store, store_beside

_ARRAYS = "unit.npy", "norm.npy", "rows.npy"


class _Teacher:
    """An embedder that takes no time."""

    digest, embedding, on_gpu = "12" * 32, 6, False
    preprocessing = Preprocessing.ours((24, 20))

    def embed(self, images: np.ndarray) -> np.ndarray:
        means = images.reshape(len(images), -1).mean(axis=1, keepdims=True, dtype=np.float32)
        return means * np.arange(1, 7, dtype=np.float32)


def _samples() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        cache_embeddings(_Teacher(), small_store(), Path(folder))
        whole = take_in(Path(folder) / cache_digest(_Teacher(), small_store()))
    rows = whole["rows.npy"]
    assert isinstance(rows, bytes)
    return [whole, {**whole, "rows.npy": rows[:-20] + bytes(20)}]


def _view_samples() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        asked = _asked(small_store())
        cache_embeddings(_Teacher(), small_store(), Path(folder), answers=asked)
        return [take_in(Path(folder) / cache_digest(_Teacher(), small_store(), asked))]


def _asked(store: Store) -> Answers:
    return Answers(NumberedView(Augmentation(Strengths(), store), 1), "int8")


def _sign(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change a number in a row and update its checksum."""
    try:
        unit, norm, rows = (np.load(io.BytesIO(files[name])) for name in _ARRAYS)
        row = rng.randrange(len(rows))
        numbers = (float("nan"), float("inf"), -1.0, 0.0, 1e30, 6e4)
        with np.errstate(over="ignore"):
            rng.choice([unit, norm])[row].flat[0] = rng.choice(numbers)
        rows[row] = checksums(unit[[row]], norm[[row]])[0]
        files |= zip(_ARRAYS, map(npy, (unit, norm, rows)), strict=True)
    except Exception:  # an earlier mutation broke it
        return


@reader("view_cache", _view_samples, [_sign])
def read_view(folder: Path) -> None:
    """Read the teacher's embeddings of an augmented view, in int8."""
    store = store_beside(folder)
    asked = _asked(store)
    folder.rename(folder.with_name(cache_digest(_Teacher(), store, asked)))
    cache = cache_embeddings(_Teacher(), store, folder.parent, answers=asked)
    assert np.isfinite(cache.vectors(store.rows, 0)).all()


@reader("cache", _samples, [_sign])
def read(folder: Path) -> None:
    """Fill in missing rows, and read what training would read."""
    store = store_beside(folder)
    folder.rename(folder.with_name(cache_digest(_Teacher(), store)))
    cache = cache_embeddings(_Teacher(), store, folder.parent)
    assert np.isfinite(cache.unit).all()
