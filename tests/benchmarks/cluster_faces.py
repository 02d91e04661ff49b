"""Clustering unlabelled faces: `curate cluster` compared with DBSCAN, HDBSCAN and FAISS k-means.

Uses the embeddings of a labelled data set whose labels are hidden. Pairwise F counts pairs of
images; BCubed F covers images of identities with two or more; "all" includes single images, which
should stay alone.

    python tests/benchmarks/cluster_faces.py ms1m/train --teacher r100.onnx --colour RGB \\
        --mean 127.5 --std 127.5
    python tests/benchmarks/cluster_faces.py --synthetic 1000000    # time and memory only
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from curation.clustering import group_faces
from curation.neighbours import load_faiss, normalised


def f_scores(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Scores of groups ``found`` for images with identities ``true``; both int ``[N]``."""
    true, found = (np.unique(labels, return_inverse=True)[1] for labels in (true, found))
    sizes, groups = np.bincount(true), np.bincount(found)
    keys = true.astype(np.int64) * len(groups) + found
    _, which, shared = np.unique(keys, return_inverse=True, return_counts=True)
    pairs = [(part.astype(np.int64) * (part - 1) // 2).sum() for part in (shared, groups, sizes)]
    precision, recall = shared[which] / groups[found], shared[which] / sizes[true]
    several = sizes[true] >= 2
    return {
        "pairwise": _f(pairs[0] / max(pairs[1], 1), pairs[0] / max(pairs[2], 1)),
        "BCubed": _f(precision[several].mean(), recall[several].mean()),
        "BCubed, all": _f(precision.mean(), recall.mean()),
    }


def _f(precision: float, recall: float) -> float:
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def alone(labels: np.ndarray) -> np.ndarray:
    """Replace noise (-1) by groups of one."""
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)


def k_means(vectors: np.ndarray, groups: int) -> np.ndarray:
    faiss = load_faiss()
    means = faiss.Kmeans(vectors.shape[1], groups, niter=25, spherical=True, seed=0)
    means.min_points_per_centroid = 1
    means.train(vectors)
    return means.index.search(vectors, 1)[1][:, 0]


def rivals(vectors: np.ndarray, identities: int) -> dict[str, Callable[[], np.ndarray]]:
    """Each algorithm with its defaults; DBSCAN and k-means also with settings
    chosen by the labels.
    """
    from sklearn.cluster import DBSCAN, HDBSCAN

    def dbscan(eps: float, least: int) -> Callable[[], np.ndarray]:
        return lambda: alone(
            DBSCAN(eps=eps, min_samples=least, metric="cosine").fit_predict(vectors)
        )

    def hdbscan(**settings: int) -> Callable[[], np.ndarray]:
        return lambda: alone(HDBSCAN(copy=True, **settings).fit_predict(vectors))

    count = len(vectors)
    return {
        "curate cluster": lambda: group_faces(vectors)[0],
        "DBSCAN (eps 0.5, 5 samples)": dbscan(0.5, 5),
        "HDBSCAN (5)": hdbscan(),
        "k-means (k = sqrt(N / 2))": lambda: k_means(vectors, int((count / 2) ** 0.5)),
        "DBSCAN, best of eps, 2 samples": lambda: best_dbscan(dbscan, vectors),
        "HDBSCAN (2)": hdbscan(min_cluster_size=2),
        "k-means, k = true identities": lambda: k_means(vectors, identities),
    }


TRUE: np.ndarray


def best_dbscan(
    dbscan: Callable[[float, int], Callable[[], np.ndarray]], vectors: np.ndarray
) -> np.ndarray:
    """The eps with the highest BCubed F, chosen by the labels."""
    tried = [dbscan(eps, 2)() for eps in np.arange(0.36, 0.52, 0.02)]
    return max(tried, key=lambda groups: f_scores(TRUE, groups)["BCubed"])


def synthetic(count: int, dimension: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """People of 1 to about 60 images around their directions: float32 ``[N, D]``, labels."""
    random = np.random.default_rng(seed)
    sizes = np.clip(random.pareto(1.1, count).astype(int) + 1, 1, 60)
    labels = np.repeat(np.arange(count), sizes)[:count]
    people = random.standard_normal((labels[-1] + 1, dimension), np.float32)
    vectors = np.empty((count, dimension), np.float32)
    for first in range(0, count, 65_536):
        part = labels[first : first + 65_536]
        noise = random.standard_normal((len(part), dimension), np.float32)
        vectors[first : first + len(part)] = normalised(people[part] + 0.85 * noise)
    return vectors, labels


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(name: str, run: Callable[[], np.ndarray], true: np.ndarray) -> None:
    wall, began = time.perf_counter(), time.process_time()
    found = run()
    wall, seconds = time.perf_counter() - wall, time.process_time() - began
    scores = " | ".join(f"{value:.4f}" for value in f_scores(true, found).values())
    groups = int((np.bincount(np.unique(found, return_inverse=True)[1]) > 1).sum())
    say(f"| {name} | {scores} | {groups:,} | {seconds:.1f} | {wall:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="?")
    parser.add_argument("--teacher")
    parser.add_argument("--colour")
    parser.add_argument("--mean", type=float)
    parser.add_argument("--std", type=float)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--synthetic", type=int)
    parser.add_argument("--dimension", type=int, default=512)
    given = parser.parse_args()
    say("| | pairwise F | BCubed F | BCubed F, all | groups | CPU s | s |")
    say("|---|---|---|---|---|---|---|")
    if given.synthetic:
        vectors, labels = synthetic(given.synthetic, given.dimension)
        measure(f"{len(vectors):,} x {given.dimension}", lambda: group_faces(vectors)[0], labels)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        say(f"most memory: {most:.2f} GiB")
        return
    from curation.noise.embedded import TeacherChoice
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.places import locate
    from distill.cli.curate.set_embedder import open_embedder

    place = Workspace.locate(given.workspace)
    images = open_images(locate(given.images, place))
    choice = TeacherChoice(name=given.teacher, colour=given.colour, mean=given.mean, std=given.std)
    embedded, _ = open_embedder(choice, place).embed(images, None)
    vectors = embedded.vectors(slice(None))
    global TRUE
    TRUE = np.asarray(embedded.labels)
    for name, run in rivals(vectors, len(np.unique(TRUE))).items():
        measure(name, run, TRUE)


if __name__ == "__main__":
    main()
