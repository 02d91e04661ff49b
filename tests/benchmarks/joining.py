"""Accuracy of `curate join` in finding people who are in two sets, on real faces.

Run: just bench-joining --data FOLDER [--workspace DIR]
FOLDER is that of learning.py. The people of the training set are distributed to two sets; a share
of those with two or more images is in both. The result is compared with the truth.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from learning import prepare

from curation.joining import LEAST_PROBABILITY, only_once
from curation.noise.checks.divided import judge_neighbours
from curation.noise.embedded import EmbeddedImages
from curation.noise.label_errors import estimate_label_errors
from curation.views import open_images
from curation.workspace import Workspace
from distill.cli.curate.set_embedder import embed_images
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

SHARES = (0.5, 0.1)
"""Share of the people with two or more images who are in both sets."""


def deal(
    embedded: EmbeddedImages, share: float, seed: int
) -> tuple[EmbeddedImages, np.ndarray, int]:
    """The union of two sets, the person of each identity, and the size of the first set."""
    random, people = np.random.default_rng(seed), embedded.identities
    shared = (embedded.sizes >= 2) & (random.random(people) < share)
    in_second = random.random(people) < 0.5
    label = np.zeros(len(embedded), np.int64)
    for person in range(people):
        which = embedded.images_of(person)
        count = which.stop - which.start
        theirs = np.full(count, in_second[person])
        if shared[person]:
            theirs = random.permutation(count) >= random.integers(1, count)
        label[which] = person + people * theirs
    order = np.argsort(label, kind="stable")
    found, labels = np.unique(label[order], return_inverse=True)
    together = EmbeddedImages(labels, embedded.unit, embedded.norm, embedded.rows[order])
    return together, found % people, int((found < people).sum())


def measure(embedded: EmbeddedImages, share: float, seed: int = 0) -> tuple[int, int, int]:
    """The number of people in both, of pairs found, and of correct ones."""
    together, person, first = deal(embedded, share, seed)
    near = judge_neighbours(together, estimate_label_errors(together))
    across = (near.pairs[:, 0] < first) & (near.pairs[:, 1] >= first)
    likely = across & (near.probability > LEAST_PROBABILITY)
    pairs = near.pairs[likely]
    chosen = pairs[only_once(pairs, near.probability[likely])]
    right = person[chosen[:, 0]] == person[chosen[:, 1]]
    return len(person) - len(np.unique(person)), len(chosen), int(right.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    given = os.environ.get("FACE_DISTILL_REAL_DATA")
    parser.add_argument("--data", type=Path, default=given, required=given is None)
    parser.add_argument("--teacher", default="sface.onnx", help="a file in FOLDER/teacher")
    parser.add_argument("--workspace", type=Path, default=Path("workspace-joining"))
    options = parser.parse_args()
    workspace = Workspace.locate(options.workspace)
    prepare(options.data / "faces", options.data / "teacher" / options.teacher, workspace)
    pixels = Preprocessing(colour="RGB", mean=0.0, std=1.0)
    teacher = OnnxEmbedder(workspace.teachers / options.teacher, pixels)
    images = open_images(workspace.image_set("faces/train"))
    embedded, _ = embed_images(images, teacher, workspace.cache)
    sys.stdout.write("| people in both | found | right | recall |\n|---|---|---|---|\n")
    for share in SHARES:
        both, found, right = measure(embedded, share)
        cells = both, found, f"{right / found:.1%}", f"{right / both:.1%}"
        sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")


if __name__ == "__main__":
    main()
