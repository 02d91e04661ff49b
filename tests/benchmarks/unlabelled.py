"""The benefit of unlabelled faces, on real faces: the table of docs/benchmarks.md.

Run: just bench-unlabelled --data FOLDER [--workspace DIR] [--seeds 0 1] [--epochs 6] [--page]
FOLDER is that of learning.py. The labels of a random half of the identities are hidden. A student
is trained on the labelled half alone, on both halves, on both with the identities that `curate
cluster` finds in the hidden one, and on all faces with their labels. Each row is a job on one core,
with the same number of steps. Run the same command again to resume; the table contains the results
so far. ``--page`` writes it into docs/.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from learning import prepare, run_job
from learning_recipes import ANGULAR, ARCFACE
from learning_scores import SETS, Scorer, last_stages

from curation.face_groups import write_groups
from curation.labels import UNLABELLED
from curation.noise.embedded import TeacherChoice
from curation.unlabelled import with_each_alone
from curation.view_writing import write_subset, write_view
from curation.views import open_images
from curation.workspace import Workspace
from distill.backbones import create
from distill.cli.curate.set_embedder import open_embedder
from distill.export.safe_tensors import load_weights
from distill.pipeline.training import NETWORK
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing

BATCH, SIDES = 32, (64, 64)
BAR = 0.7
ROWS = {
    "half": ("the labelled half alone", '"faces/labelled"', 2),
    "mixed": (
        "the labelled half, and the other half without labels",
        '[{ set = "faces/labelled" }, { set = "faces/hidden", labels = false }]',
        1,
    ),
    "grouped": (
        "the labelled half, and the other half with the identities that `curate cluster` finds",
        '[{ set = "faces/labelled" }, { set = "faces/grouped" }]',
        1,
    ),
    "all": ("all faces with their labels", '"faces/train"', 1),
}
"""Title, ``data.train``, and a factor of the epochs that equalises the steps; by name."""
SCORES = {
    "LFW": ("lfw", "accuracy"),
    "CFP-FF": ("cfp_ff", "accuracy"),
    "CFP-FP": ("cfp_fp", "accuracy"),
    "all pairs, TAR at FAR 1e-3": ("test", "tar@1e-3"),
}
"""Set and score, by the heading of the column."""
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- the unlabelled table begins -->\n", "<!-- the unlabelled table ends -->\n"

SPEC = """\
name = "{name}"

[data]
train = {train}
evaluate = []

[teacher]
from = "{teacher}"
preprocessing = {{ colour = "RGB", mean = 0.0, std = 1.0 }}

[student]
backbone = "mobilefacenet"
embedding = 128
width = 0.5
input_size = [64, 64]

[[stage]]
epochs = {epochs}
losses = {{ {losses} }}

[train]
batch_size = {batch}
learning_rate = 0.1
clip_gradient_norm = 5.0
seed = {seed}
"""

Scores = dict[str, dict[str, list[float]]]
"""By row and column: the value of each seed."""


def halve(workspace: Workspace) -> None:
    """The views of both halves, which have equally many images per batch."""
    faces = open_images(workspace.image_set("faces/train"))
    order = np.random.default_rng(0).permutation(faces.identities)
    images = np.cumsum(np.diff(faces.offsets)[order])
    first = order[: np.searchsorted(images, len(faces) / 2)]
    chosen = np.isin(faces.labels, first)
    for name, keep in {"labelled": chosen, "hidden": ~chosen}.items():
        path = workspace.datasets / "faces" / f"{name}.view"
        if not path.exists():
            write_subset(path, faces, keep, "half of the identities", {"seed": 0})


def group(workspace: Workspace, teacher: str) -> None:
    """The view of the hidden half with the identities found from its faces alone."""
    folder = workspace.datasets / "faces"
    if (folder / "grouped.view").exists():
        return
    path = folder / "nobody.view"
    if not path.exists():
        hidden = open_images(folder / "hidden.view")
        nobody = np.full(len(hidden), UNLABELLED)
        write_view(path, hidden, np.arange(len(hidden)), nobody, "without labels", {})
    unlabelled = open_images(path)
    choice = TeacherChoice(name=teacher, colour="RGB", mean=0.0, std=1.0, least_accuracy=0.0)
    faces, _ = open_embedder(choice, workspace).embed(with_each_alone(unlabelled), None)
    write_groups(folder / "grouped.view", unlabelled, faces)


def train(row: str, seed: int, epochs: int, teacher: str, workspace: Workspace) -> None:
    """The job of one row and seed; reused if it is done."""
    _, data, times = ROWS[row]
    name = f"{row}-{epochs}-{seed}"
    text = SPEC.format(
        name=name,
        train=data,
        teacher=teacher,
        epochs=times * epochs,
        losses=f"{ARCFACE}, {ANGULAR}",
        batch=BATCH,
        seed=seed,
    )
    run_job(name, text, workspace)


def scores(workspace: Workspace, epochs: int, seeds: list[int], teacher: str) -> Scores:
    """The results so far."""
    scorer, found = Scorer(workspace, teacher), Scores()
    for row in ROWS:
        for seed in seeds:
            folder = last_stages(workspace.runs / f"{row}-{epochs}-{seed}").get(1)
            if folder is not None:
                network = create("mobilefacenet", 128, SIDES, 0.5)
                load_weights(folder / NETWORK, network)
                embedder = TorchEmbedder(network, Preprocessing.ours(SIDES), folder.name)
                of_sets = scorer.scores(embedder, SETS)
                for column, (name, score) in SCORES.items():
                    found.setdefault(row, {}).setdefault(column, []).append(of_sets[name][score])
    return found


def table(found: Scores) -> str:
    """Markdown: means over the seeds, and the share of the loss that is recovered."""
    lines = [f"| trained on | {' | '.join(SCORES)} |", "|" + "---|" * (len(SCORES) + 1)]
    verdicts: list[str] = []
    means = {
        row: {name: float(np.mean(of)) for name, of in each.items()} for row, each in found.items()
    }
    for row, each in means.items():
        cells = [f"{each[name]:.3f}" for name in SCORES]
        lines.append(f"| {ROWS[row][0]} | {' | '.join(cells)} |")
    if len(means) == len(ROWS):
        for row, how in (("mixed", "without labels"), ("grouped", "with identities found")):
            shares = [won_back(means, row, name) for name in SCORES]
            cells = ["nothing is lost" if share is None else f"{share:.0%}" for share in shares]
            reached = all(share is None or share >= BAR for share in shares)
            lines.append(f"| recovered {how} | {' | '.join(cells)} |")
            verdicts.append(f"{how}: {'reached' if reached else 'not reached'}")
        lines.append(f"\nThe goal is {BAR:.0%} on every set. {'; '.join(verdicts).capitalize()}.")
    return "\n".join(lines) + "\n"


def won_back(means: dict[str, dict[str, float]], row: str, name: str) -> float | None:
    """The share of the gap between the labelled half and all labels; None without a gap."""
    lost = means["all"][name] - means["half"][name]
    return (means[row][name] - means["half"][name]) / lost if lost > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    given = os.environ.get("FACE_DISTILL_REAL_DATA")
    parser.add_argument("--data", type=Path, default=given, required=given is None)
    parser.add_argument("--teacher", default="sface.onnx", help="a file in FOLDER/teacher")
    parser.add_argument("--workspace", type=Path, default=Path("workspace-unlabelled"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6, help="of all faces")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    workspace = Workspace.locate(options.workspace)
    prepare(options.data / "faces", options.data / "teacher" / options.teacher, workspace)
    halve(workspace)
    group(workspace, options.teacher)
    for seed in options.seeds:
        for row in ROWS:
            train(row, seed, options.epochs, options.teacher, workspace)
    text = table(scores(workspace, options.epochs, options.seeds, options.teacher))
    sys.stdout.write(text)
    if options.page:
        write_page(text)


def write_page(text: str) -> None:
    """Write the table between its markers in docs/benchmarks.md."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
