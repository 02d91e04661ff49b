"""The effect of a second round of cleaning, on faces with planted label errors.

    python tests/benchmarks/cleaning_rounds.py STORE --teacher sface.onnx --mean 0 --std 1

STORE must have no verification sets beside it, which would also be embedded. `closed`: a share of
the images gets the label of another image's person. `open`: as many show people who are otherwise
not in the set. Then the recipe step `clean` runs with rounds.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from curation.image_set import ImageSet
from curation.noise.embedded import TeacherChoice
from curation.progress import unwatched
from curation.recipes.context import RecipeContext
from curation.recipes.file import CheckStep, CleanStep
from curation.recipes.noise_steps import check_images, clean_images
from curation.subsets import write_long_tail_cut
from curation.view_writing import write_view
from curation.views import View, open_images
from curation.workspace import Workspace
from distill.cli.curate.set_embedder import open_embedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="a store with few wrong labels")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--std", type=float, default=127.5)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--least", type=int, default=5, help="images of the identities taken")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    options = parser.parse_args()
    place = Workspace(options.workspace)
    teacher = TeacherChoice(
        name=options.teacher, colour="RGB", mean=options.mean, std=options.std, least_accuracy=0.0
    )
    everyone = open_images(options.images)
    for kind, plant in {"closed": closed, "open": opened}.items():
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder)
            frequent = write_long_tail_cut(target / "frequent.view", everyone, options.least)
            noisy = plant(target / "noisy.view", everyone, frequent, options.share)
            told(kind, "noisy", noisy, everyone)
            context = RecipeContext(
                target, target, partial(open_embedder, workspace=place), teacher
            )
            check = CheckStep(do="check", of="noisy")
            check_images(check, context, "", unwatched)
            step = CleanStep(do="clean", of="noisy", to="clean", rounds=options.rounds, until=0.001)
            for made in clean_images(step, check, context, "", unwatched):
                if made.kind == "view":
                    told(kind, f"{made.path.stem} {made.note}", View(made.path), everyone)


def closed(path: Path, everyone: ImageSet, frequent: ImageSet, share: float) -> View:
    """A view of ``frequent`` in which a share of the images has the label of another image."""
    random = np.random.default_rng(0)
    labels = frequent.labels.astype(np.int64)
    hit = random.permutation(len(labels))[: int(share * len(labels))]
    labels[hit] = frequent.labels[random.integers(0, len(labels), len(hit))]
    return relabelled(path, frequent, frequent.rows, labels)


def opened(path: Path, everyone: ImageSet, frequent: ImageSet, share: float) -> View:
    """``frequent`` plus images of people whom it lacks, which are a share of the view."""
    random = np.random.default_rng(0)
    strangers = random.permutation(np.setdiff1d(everyone.rows, frequent.rows))
    strangers = strangers[: int(share / (1 - share) * len(frequent))]
    labels = frequent.labels.astype(np.int64)
    given = labels[random.integers(0, len(labels), len(strangers))]
    rows = np.concatenate([frequent.rows, strangers])
    return relabelled(path, everyone, rows, np.concatenate([labels, given]))


def relabelled(path: Path, parent: ImageSet, rows: np.ndarray, labels: np.ndarray) -> View:
    order = np.lexsort((rows, labels))
    places = np.searchsorted(parent.rows, rows[order])
    new = np.unique(labels[order], return_inverse=True)[1]
    return write_view(path, parent, places, new, "planted", {})


def told(kind: str, name: str, images: ImageSet, everyone: ImageSet) -> None:
    """The number of images under the label that most images of their true person have."""
    true = everyone.labels[np.searchsorted(everyone.rows, images.rows)].astype(np.int64)
    pairs = images.labels.astype(np.int64) * (int(true.max()) + 1) + true
    _, where, sizes = np.unique(pairs, return_inverse=True, return_counts=True)
    most = np.zeros(images.identities, np.int64)
    np.maximum.at(most, images.labels, sizes[where])
    right = int((sizes[where] == most[images.labels]).sum())
    sys.stdout.write(
        f"{kind:7}{name:28}{len(images):7,} images {images.identities:6,} identities "
        f"{len(images) - right:6,} wrong ({1 - right / len(images):.2%})\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
