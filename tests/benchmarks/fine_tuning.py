"""Fine-tuning on new people, on real faces: the table of docs/how-to/fine-tune.md.

Run: just bench-fine-tuning --data FOLDER [--workspace DIR] [--seeds 0 1 2] [--page]
FOLDER is that of learning.py. A student is trained with a teacher on half of the identities, then
fine-tuned from labels alone on the other half, or on 30 of them, with and without `remember`. It is
compared with a student that starts from random weights and has the same steps. A quarter of the
images of everyone who has at least six is held out for the scores. Each row is a job on one core.
Run the same command again to resume; the table contains the results so far. ``--page`` writes it
into the page.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from learning import prepare, run_job
from learning_recipes import ANGULAR, ARCFACE
from learning_scores import Scorer, last_stages

from curation.image_set import ImageSet
from curation.view_writing import write_subset
from curation.views import open_images
from curation.workspace import Workspace
from distill.backbones import create
from distill.evaluation.all_pairs import all_pairs
from distill.evaluation.set_features import FEATURES, NetworkFeatures
from distill.export.safe_tensors import load_weights
from distill.pipeline.training import NETWORK
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing

SIDES = (64, 64)
LEAST_IMAGES, HELD_OUT = 6, 0.25
"""Who has images held out, and the share of them"""
FEW_PEOPLE, FEW_IMAGES = 30, 8
EPOCHS = 8
"""Of the first student"""
FAR = "1e-2"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fine-tune.md"
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"

NETWORK_KEYS = 'backbone = "mobilefacenet"\nembedding = 128\nwidth = 0.5\ninput_size = [64, 64]'
LABELS = "losses = { arcface = { scale = 32.0, margin = 0.3 } }"
TEACHER = (
    '[teacher]\nfrom = "{teacher}"\npreprocessing = {{ colour = "RGB", mean = 0.0, std = 1.0 }}\n'
)
SPEC = """\
name = "{name}"

[data]
train = "faces/{data}"
evaluate = []

{teacher}
[student]
{student}

{stages}
[train]
batch_size = 32
learning_rate = {rate}
clip_gradient_norm = 5.0
seed = {seed}
"""


@dataclass(frozen=True)
class Row:
    """One way to learn the new people: ``epochs`` on the view ``data``.

    ``remember`` is the weight of the loss against the first student. Without ``begins``, the
    student starts from random weights.
    """

    title: str
    data: str
    epochs: int
    begins: bool = True
    remember: float | None = None

    def spec(self, name: str, seed: int) -> str:
        """The job of this row. A fifth of its epochs train the head alone."""
        student, stages = NETWORK_KEYS, f"[[stage]]\nepochs = {self.epochs}\n{LABELS}\n"
        if self.begins:
            student = f'from = "first-{seed}"'
            if self.remember is not None:
                student += f"\nremember = {self.remember}"
            frozen = max(1, self.epochs // 5)
            stages = (
                f'[[stage]]\nepochs = {frozen}\nfreeze = "body"\n{LABELS}\n'
                f"[[stage]]\nepochs = {self.epochs - frozen}\nbody_learning_rate = 0.3\n{LABELS}\n"
            )
        return SPEC.format(
            name=name,
            data=self.data,
            teacher="",
            student=student,
            stages=stages,
            rate=0.05 if self.begins else 0.1,
            seed=seed,
        )


def _rows(data: str, epochs: int, remember: float) -> dict[str, Row]:
    return {
        f"{data}-plain": Row("fine-tuned", data, epochs),
        f"{data}-remember": Row(
            f"fine-tuned, `remember = {remember}`", data, epochs, remember=remember
        ),
        f"{data}-fresh": Row("from random weights, the same steps", data, epochs, begins=False),
    }


ROWS = {**_rows("new", 5, 7.0), **_rows("few", 20, 20.0)}
Scores = dict[str, list[float]]
"""By column: the value of each seed."""


def write_views(workspace: Workspace) -> None:
    """first, new and few, and the held-out images of the same people in NAME-held."""
    faces = open_images(workspace.image_set("faces/train"))
    counts = np.diff(faces.offsets)
    random = np.random.default_rng(0)
    order = random.permutation(faces.identities)
    people = {"first": order[: len(order) // 2], "new": order[len(order) // 2 :]}
    many = [person for person in people["new"] if counts[person] >= FEW_IMAGES + 4]
    people["few"] = np.array(many[:FEW_PEOPLE])
    held = _held_out(faces, counts, random)
    rank = _rank_among(faces, ~held)
    for name, chosen in people.items():
        theirs = np.isin(faces.labels, chosen)
        trained = theirs & ~held & ((rank < FEW_IMAGES) if name == "few" else True)
        for view, keep in {name: trained, f"{name}-held": theirs & held}.items():
            path = workspace.datasets / "faces" / f"{view}.view"
            if not path.exists():
                write_subset(path, faces, keep, "a part of the identities", {"seed": 0})


def _held_out(faces: ImageSet, counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """bool [N]: the images for the scores."""
    held = np.zeros(len(faces), bool)
    for start, count in zip(faces.offsets[:-1], counts, strict=True):
        if count >= LEAST_IMAGES:
            held[start + random.permutation(count)[: max(2, int(HELD_OUT * count))]] = True
    return held


def _rank_among(faces: ImageSet, kept: np.ndarray) -> np.ndarray:
    """int64 [N]: how many kept images of the same identity come before each image."""
    before = np.concatenate([[0], np.cumsum(kept)])
    return before[:-1] - before[faces.offsets[:-1]][np.asarray(faces.labels)]


def first_spec(teacher: str, seed: int) -> str:
    """The job of the first student: ArcFace and angular."""
    return SPEC.format(
        name=f"first-{seed}",
        data="first",
        teacher=TEACHER.format(teacher=teacher),
        student=NETWORK_KEYS,
        stages=f"[[stage]]\nepochs = {EPOCHS}\nlosses = {{ {ARCFACE}, {ANGULAR} }}\n",
        rate=0.1,
        seed=seed,
    )


class Table:
    """The scores of all rows so far: TAR on held-out images, and LFW."""

    def __init__(self, workspace: Workspace, seeds: list[int], teacher: str) -> None:
        self.workspace, self.seeds = workspace, seeds
        self.scorer = Scorer(workspace, teacher)

    def markdown(self) -> str:
        """Means and standard deviations over the seeds."""
        lines = [
            f"| | first people, TAR at FAR {FAR} | new people, TAR at FAR {FAR} | LFW |",
            "|---|---|---|---|",
        ]
        for data in ("new", "few"):
            held = open_images(self._view(f"{data}-held"))
            train = open_images(self._view(data))
            lines.append(
                self._line(
                    f"**{train.identities:,} new people, {len(train):,} images**: before",
                    "first",
                    held,
                )
            )
            for name, row in ROWS.items():
                if row.data == data:
                    lines.append(self._line(f"{row.title}, {row.epochs} epochs", name, held))
        return "\n".join(lines) + "\n"

    def _line(self, title: str, name: str, new: ImageSet) -> str:
        columns: Scores = {}
        for seed in self.seeds:
            embedder = self._network(f"{name}-{seed}")
            if embedder is not None:
                first = open_images(self._view("first-held"))
                lfw = self.scorer.scores(embedder, ["lfw"])["lfw"]["accuracy"]
                row = {"first": self._tar(embedder, first), "new": self._tar(embedder, new)}
                for column, value in {**row, "lfw": lfw}.items():
                    columns.setdefault(column, []).append(value)
        cells = [_cell(columns[name]) for name in columns] or ["", "", ""]
        return f"| {title} | {' | '.join(cells)} |"

    def _tar(self, embedder: TorchEmbedder, images: ImageSet) -> float:
        features = NetworkFeatures(embedder, self.workspace.cache / FEATURES).features(images)
        return float(all_pairs(features, np.asarray(images.labels))["tar_at_far"][FAR]["tar"])

    def _network(self, job: str) -> TorchEmbedder | None:
        folder = last_stages(self.workspace.runs / job).get(1)
        if folder is None:
            return None
        network = create("mobilefacenet", 128, SIDES, 0.5)
        load_weights(folder / NETWORK, network)
        return TorchEmbedder(network, Preprocessing.ours(SIDES), folder.name)

    def _view(self, name: str) -> Path:
        return self.workspace.datasets / "faces" / f"{name}.view"


def _cell(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    given = os.environ.get("FACE_DISTILL_REAL_DATA")
    parser.add_argument("--data", type=Path, default=given, required=given is None)
    parser.add_argument("--teacher", default="sface.onnx", help="a file in FOLDER/teacher")
    parser.add_argument("--workspace", type=Path, default=Path("workspace-fine-tuning"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    workspace = Workspace.locate(options.workspace)
    prepare(options.data / "faces", options.data / "teacher" / options.teacher, workspace)
    write_views(workspace)
    for seed in options.seeds:
        run_job(f"first-{seed}", first_spec(options.teacher, seed), workspace)
        for name, row in ROWS.items():
            run_job(f"{name}-{seed}", row.spec(f"{name}-{seed}", seed), workspace)
    text = Table(workspace, options.seeds, options.teacher).markdown()
    sys.stdout.write(text)
    if options.page:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
