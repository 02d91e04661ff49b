"""Nearest neighbours among unit vectors with FAISS, on the GPU if there is one.

Up to hundreds of thousands of vectors, all are compared. Above that, an approximate index is
faster; its recall is measured on a sample and reported.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from curation.progress import Progress

Kind = Literal["flat", "hnsw", "ivf"]
LARGEST_FLAT, LARGEST_FLAT_ON_GPU = 300_000, 2_000_000
LARGEST_GRAPH = 2_000_000
LARGEST_COMPARED = 50_000
_FEW_ROUNDS, _LISTS_EACH = 6, 24
"""For ``near_each``: k-means iterations for the lists, and lists searched per vector"""
RECALL_QUERIES = 500
RECALL_COSINE = 0.7
"""A quarter of real images is further from the centre of its identity."""
_BESIDE = 8
_BLOCK = 8192
_LINKS, _BREADTH_BUILDING, _BREADTH = 32, 64, 256
"""Parameters of the graph: links per vector, candidates while building and while searching"""


class Neighbours:
    """An index over unit vectors float32 ``[K, D]``; similarities are cosines.

    ``recall`` is the measured share of sample queries whose nearest vector is found (1.0 if all
    vectors are compared).
    """

    def __init__(self, vectors: np.ndarray, kind: Kind | None = None) -> None:
        faiss = load_faiss()
        self.size, self.dimension = vectors.shape
        self.on_gpu = _has_gpu(faiss)
        self.kind: Kind = kind or choose_kind(self.size, self.on_gpu)
        self._index = _build(faiss, np.ascontiguousarray(vectors, np.float32), self.kind)
        if self.on_gpu and self.kind != "hnsw":
            self._index = faiss.index_cpu_to_all_gpus(self._index)
        self.recall = 1.0 if self.kind == "flat" else self._measure_recall(vectors)

    def __str__(self) -> str:
        where = "GPU" if self.on_gpu and self.kind != "hnsw" else "CPU"
        measured = "exact" if self.kind == "flat" else f"recall@1 {self.recall:.3f}, measured"
        return f"{self.kind} index over {self.size:,} vectors on the {where} ({measured})"

    def search(
        self, queries: np.ndarray, count: int, progress: Progress | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines float32 and indices int64, ``[Q, count]``, nearest first; -1 for missing ones.

        Progress counts queries.
        """
        similarities = np.full((len(queries), count), -1.0, np.float32)
        indices = np.full((len(queries), count), -1, np.int64)
        found = min(count, self.size)
        for block in blocks(len(queries), _BLOCK):
            part = np.ascontiguousarray(queries[block], np.float32)
            similarities[block, :found], indices[block, :found] = self._index.search(part, found)
            if progress is not None:
                progress(block.stop, len(queries))
        similarities[indices < 0] = -1.0
        return similarities, indices

    def _measure_recall(self, vectors: np.ndarray) -> float:
        """Uses queries that are as near to one of the vectors as images are to their centres, in a
        random direction; nearer queries would be found too easily."""
        random = np.random.default_rng(0)
        chosen = random.integers(0, self.size, (RECALL_QUERIES, 1 + _BESIDE))
        signs = random.choice([-1.0, 1.0], (RECALL_QUERIES, _BESIDE))
        nearby = normalised(np.einsum("qk,qkd->qd", signs, vectors[chosen[:, 1:]]))
        queries = normalised(
            RECALL_COSINE * vectors[chosen[:, 0]] + np.sqrt(1 - RECALL_COSINE**2) * nearby
        )
        best, exact = np.full(RECALL_QUERIES, -np.inf), np.zeros(RECALL_QUERIES, np.int64)
        for block in blocks(self.size, _BLOCK):
            products = queries @ vectors[block].T
            highest = products.max(axis=1)
            better = highest > best
            best[better] = highest[better]
            exact[better] = products[better].argmax(axis=1) + block.start
        return float((self.search(queries, 1)[1][:, 0] == exact).mean())


def near_each(
    vectors: np.ndarray, count: int, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` nearest neighbours of each unit vector float32 ``[N, D]``, as in ``search``.

    They include the vector itself. Up to 50,000 vectors, all are compared. Above that it searches
    inverted lists with two-byte values, an index that is fast to build and takes half of the
    vectors' memory. It finds nearly all neighbours that are as near as images of one person, and
    fewer of those farther away.
    """
    if len(vectors) <= LARGEST_COMPARED:
        return Neighbours(vectors, "flat").search(vectors, count + 1, progress)
    faiss = load_faiss()
    size, dimension = vectors.shape
    lists = int(2 * size**0.5)
    coarse = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        coarse, dimension, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.cp.niter, index.nprobe = _FEW_ROUNDS, _LISTS_EACH
    index.train(np.ascontiguousarray(vectors[:: max(1, size // (lists * 40))]))
    cosines = np.empty((size, count + 1), np.float32)
    which = np.empty((size, count + 1), np.int32)
    for block in blocks(size, _BLOCK):
        index.add(np.ascontiguousarray(vectors[block], np.float32))
    for block in blocks(size, _BLOCK):
        part = np.ascontiguousarray(vectors[block], np.float32)
        cosines[block], which[block] = index.search(part, count + 1)
        if progress is not None:
            progress(block.stop, size)
    return cosines, which


def choose_kind(size: int, on_gpu: bool = False) -> Kind:
    """Flat if comparing all is cheap, else a graph (HNSW), else inverted lists (IVF).

    A graph needs memory for its links and cannot be built on a GPU.
    """
    if size <= (LARGEST_FLAT_ON_GPU if on_gpu else LARGEST_FLAT):
        return "flat"
    return "hnsw" if size <= LARGEST_GRAPH and not on_gpu else "ivf"


def load_faiss() -> ModuleType:
    """Import FAISS with its OpenBLAS kernel set for this processor.

    FAISS's wheels include an OpenBLAS that chooses an old kernel on unknown processors; the right
    one is 3 to 4 times as fast, with equal results. It reads the variable when it is loaded.
    """
    flags = _processor_flags()
    if "avx512f" in flags:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    elif "avx2" in flags:
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
    import faiss

    return faiss


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``[..., D]`` at length 1; zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32, copy=False)


def blocks(length: int, size: int) -> Iterator[slice]:
    """0 ... length - 1 in slices of at most ``size``."""
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))


def _processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.split())


def _has_gpu(faiss: ModuleType) -> bool:
    return hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0


def _build(faiss: ModuleType, vectors: np.ndarray, kind: Kind) -> Any:
    size, dimension = vectors.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(dimension)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = _BREADTH_BUILDING, _BREADTH
    else:
        lists = max(1, min(int(4 * size**0.5), size // 39))
        flat = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFFlat(flat, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(8, lists // 5)
        index.train(vectors[:: max(1, size // (lists * 64))])
    index.add(vectors)
    return index
