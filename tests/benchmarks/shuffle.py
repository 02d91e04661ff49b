"""The cost of the windowed shuffle in mixing, and its savings in disk reads.

Run: just bench-shuffle [--store PATH]. Mixing is computed from the plans alone, for 5.8 million
images of 85,742 identities, like MS1M. Reading is measured on the store with an empty page cache.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np

from curation.environment import DATA_FILE
from curation.views import open_images
from distill.training.data import BatchLoader
from distill.training.read_ahead import sequential_runs
from distill.training.shuffles import BatchPlan, FullShuffle, WindowedShuffle
from teachers.preprocessing import Preprocessing

IMAGES, IDENTITIES, BATCH, BATCHES = 5_822_653, 85_742, 512, 2000
COLD_BATCH, COLD_WINDOW, ROUNDS = 128, 4096, 5


def draw_labels() -> np.ndarray:
    """Identities of uneven size, 68 images on average, in store order."""
    random = np.random.default_rng(0)
    shares = random.lognormal(0, 0.6, IDENTITIES)
    ends = np.cumsum(shares) / shares.sum() * IMAGES
    return np.searchsorted(ends, np.arange(IMAGES), side="right")


def describe(name: str, plan: BatchPlan, labels: np.ndarray) -> None:
    """One line: how well batches are mixed, and the disk reads they need."""
    order, _ = plan.epoch(0)
    batches = np.sort(labels[order[: BATCHES * BATCH]].reshape(BATCHES, BATCH), axis=1)
    same = np.diff(batches, axis=1) == 0
    distinct = BATCH - same.sum(axis=1).mean()
    spread = batches.mean(axis=1).std() / (IDENTITIES / np.sqrt(12 * BATCH))
    ahead = plan.read_ahead or BATCH
    seeks = len(sequential_runs(order[:ahead], gap=0)) / ahead
    say(
        f"{name:34} {distinct:6.1f} identities in a batch of {BATCH}, mean label varies "
        f"x{spread:5.2f}, {1000 * seeks:6.1f} seeks for 1,000 images"
    )


def compare_mixing() -> None:
    """Full, and windows and chunks of several sizes."""
    labels = draw_labels()
    say(f"{IMAGES:,} images of {IDENTITIES:,} identities; spread 1.00 is that of pure chance")
    describe("full", FullShuffle(IMAGES, BATCH, 0), labels)
    for window, chunk in product((16_384, 65_536, 262_144), (16, 64, 256)):
        plan = WindowedShuffle(np.arange(IMAGES), BATCH, 0, window, chunk)
        describe(f"window {window:,}, chunk {chunk}", plan, labels)


def read_cold(path: Path, how: str) -> None:
    """In the child: one epoch, its seconds and its page faults that waited for the disk."""
    images = open_images(path)
    plan: BatchPlan = FullShuffle(len(images), COLD_BATCH, 0)
    if how == "windowed":
        plan = WindowedShuffle(images.rows, COLD_BATCH, 0, COLD_WINDOW)
    began = time.perf_counter()
    with BatchLoader(images, Preprocessing.ours(images.image_size), plan) as loader:
        for _ in loader.batches(0, plan.steps_per_epoch):
            pass
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    say(f"{time.perf_counter() - began} {faults}")


def compare_reading(path: Path) -> None:
    """Epochs with an empty page cache, alternating."""
    images = open_images(path)
    results: dict[str, list[tuple[float, float]]] = {"full": [], "windowed": []}
    for _ in range(ROUNDS):
        for how, runs in results.items():
            with (images.store.path / DATA_FILE).open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            command = [sys.executable, __file__, "--store", str(path), "--cold", how]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, faults = map(float, answer.split())
            runs.append((seconds, faults))
    say(f"\nAn epoch of {len(images):,} images, page cache empty; fastest of {ROUNDS}, in turns")
    for how, runs in results.items():
        seconds, faults = min(runs)
        say(f"{how:10} {len(images) / seconds:8,.0f} images/s, {faults:,.0f} waits for the disk")


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Mixing, then reading if a store is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--cold", choices=["full", "windowed"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cold:
        read_cold(options.store, options.cold)
        return
    compare_mixing()
    if options.store:
        compare_reading(options.store)


if __name__ == "__main__":
    main()
