"""Time and memory of the checks on many simulated embeddings.

Run: just bench-noise-scale [--images N ...] [--threads 2] [--folder FOLDER]. The vectors are in a
memory-mapped file, like the embedding cache; pixels are not used. Peak memory is the operating
system's count for the whole process, including mapped pages of that file.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from simulate import EVALUATION, LABELS, NORM, TRUTH, UNIT, write_simulated

from curation.noise.checks.divided import find_split_identities
from curation.noise.checks.duplicate import candidates
from curation.noise.checks.misplaced import relabel_probability
from curation.noise.checks.mixed import find_mixed
from curation.noise.checks.overlap import find_overlap
from curation.noise.checks.unusable import unusable_probability
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.label_errors import estimate_label_errors

DIMENSION = 512
IMAGES_PER_IDENTITY = 50
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Watch:
    """Seconds, and peak memory so far in MiB, of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin
        self.peak[name] = peak_memory()


def peak_memory() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def analyse(folder: Path) -> dict[str, object]:
    """Run all checks that need no pixels."""
    unit = np.load(folder / UNIT, mmap_mode="r")
    images = EmbeddedImages(
        np.load(folder / LABELS), unit, np.load(folder / NORM), np.arange(len(unit))
    )
    evaluation = [EvaluationImages("evaluation", np.load(folder / EVALUATION))]
    watch = Watch()
    with watch.stage("label errors"):
        label_errors = estimate_label_errors(images)
    flagged = label_errors.probability > 0.5
    with watch.stage("relabel candidates"):
        relabel_probability(images, label_errors, np.flatnonzero(flagged))
    with watch.stage("unusable"):
        unusable_probability(images, label_errors)
    with watch.stage("mixed"):
        find_mixed(images, label_errors)
    with watch.stage("divided"):
        find_split_identities(images, label_errors)
    with watch.stage("overlap"):
        find_overlap(images, label_errors, evaluation)
    with watch.stage("duplicates' candidates"):
        pairs = sum(1 for _ in candidates(images, label_errors))
    person = np.load(folder / TRUTH)
    return {
        "images": len(images),
        "identities": images.identities,
        "seconds": watch.seconds,
        "total": sum(watch.seconds.values()),
        "cpu": time.process_time(),
        "peak": watch.peak,
        "peak_mib": peak_memory(),
        "search": str(label_errors.search),
        "candidates": pairs,
        **_agreement(images, flagged, person),
    }


def _agreement(images: EmbeddedImages, flagged: np.ndarray, person: np.ndarray) -> dict[str, float]:
    """Precision and recall of wrong labels in identities with a majority."""
    order = np.lexsort((person, images.labels))
    keys = images.labels[order].astype(np.int64) * (person.max() + 2) + person[order] + 1
    _, first, count = np.unique(keys, return_index=True, return_counts=True)
    identity = images.labels[order][first]
    most = np.zeros(images.identities, np.int64)
    np.maximum.at(most, identity, count)
    share = np.zeros(len(images))
    share[order] = np.repeat(count / most[identity], count)
    clear = (most > 0.7 * images.sizes)[images.labels] & (images.sizes >= 5)[images.labels]
    wrong = share < 0.3
    hits = (flagged & wrong & clear).sum()
    return {
        "precision": float(hits / max((flagged & clear).sum(), 1)),
        "recall": float(hits / max((wrong & clear).sum(), 1)),
    }


def measure(images: int, threads: int, folder: Path | None) -> dict[str, object]:
    """Simulate, and analyse in a separate process."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        write_simulated(Path(place), images, images // IMAGES_PER_IDENTITY, DIMENSION)
        command = [sys.executable, __file__, "--run", place]
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        load = os.getloadavg()[0]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        return {**json.loads(answer.stdout), "load_before": load, "load_after": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="a disk with 1 GB per million images")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        sys.stdout.write(json.dumps(analyse(options.run)))
        return
    for images in options.images:
        measured = measure(images, options.threads, options.folder)
        sys.stdout.write(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
