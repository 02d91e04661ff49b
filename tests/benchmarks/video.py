"""The feature of a video if some of its frames show another person.

Run: just bench-video MODEL SET [--workspace DIR] [--frames 5] [--json]; a file takes --mean, --std
and --colour, like `distill evaluate`.

For each person of SET with at least 2 x frames images, two "videos" of different images are made; a
share of the frames is replaced by faces of random others. Each video becomes one feature, and all
pairs of videos are verified. Mean and deviation are over ten draws.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from curation.workspace import Workspace
from distill.cli.model_options import ModelFileOptions
from distill.cli.scored import open_model, open_set
from distill.evaluation.all_pairs import all_pairs
from distill.evaluation.templates import average, largest_cluster, without_farthest

SHARES = (0.0, 0.1, 0.3)
DRAWINGS = 10
WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one frame": lambda features: features[0],
    "mean of all": average,
    "without the farthest 20 %": without_farthest,
    "without the farthest 40 %": partial(without_farthest, dropped=0.4),
    **{
        f"largest cluster, {each}": partial(largest_cluster, threshold=each)
        for each in (0.2, 0.3, 0.4, 0.5)
    },
}


def videos(
    features: np.ndarray, labels: np.ndarray, frames: int, share: float, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of two videos of each person with enough images, and their people."""
    generator = np.random.default_rng(seed)
    groups, people = [], []
    for person in np.flatnonzero(np.bincount(labels) >= 2 * frames):
        own = generator.permutation(np.flatnonzero(labels == person))[: 2 * frames]
        others = np.flatnonzero(labels != person)
        foreign = generator.random(2 * frames) < share
        own[foreign] = generator.choice(others, int(foreign.sum()), replace=False)
        groups += [features[own[:frames]], features[own[frames:]]]
        people += [person, person]
    return groups, np.array(people)


def measure(features: np.ndarray, labels: np.ndarray, frames: int) -> list[dict]:
    """TAR at FAR 1e-3 of each method at each share of foreign frames, [mean, deviation]."""
    rows = []
    for name, pool in WAYS.items():
        tars = {}
        for share in SHARES:
            found = []
            for seed in range(DRAWINGS):
                groups, people = videos(features, labels, frames, share, seed)
                pooled = np.stack([pool(group) for group in groups])
                rates = all_pairs(pooled, people, intervals=False)["tar_at_far"]
                found.append(rates["1e-3"]["tar"])
            tars[f"{share:.0%}"] = [float(np.mean(found)), float(np.std(found))]
        rows.append({"way": name, "tar@1e-3": tars})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("set", help="a store or view")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--mean", type=float)
    parser.add_argument("--std", type=float)
    parser.add_argument("--colour")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    place = Workspace.locate(options.workspace)
    images = open_set(options.set, place)
    file = ModelFileOptions(mean=options.mean, std=options.std, colour=options.colour)
    features = open_model(options.model, file, place).features(images)
    rows = measure(features, np.asarray(images.labels), options.frames)
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    sys.stdout.write(
        "| one feature of a video | " + " | ".join(f"{s:.0%} foreign" for s in SHARES) + " |\n"
    )
    sys.stdout.write("|---" * (1 + len(SHARES)) + "|\n")
    for row in rows:
        cells = [f"{mean:.3f} ± {std:.3f}" for mean, std in row["tar@1e-3"].values()]
        sys.stdout.write(f"| {row['way']} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
