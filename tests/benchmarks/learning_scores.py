"""Scores of what `just bench-learning` trained, each network scored once and remembered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from learning_recipes import ROWS, Row, Student, chains, job_name

from curation.files import atomic_file
from curation.pairs import VerificationPairs, read_pairs
from curation.store import ImageSet
from curation.views import open_images
from curation.workspace import Workspace
from distill.backbones import create
from distill.evaluation.all_pairs import all_pairs
from distill.evaluation.features import embed_distinct, embed_encoded
from distill.evaluation.rates import share_above
from distill.evaluation.thresholds import cosine_of
from distill.evaluation.verification import squared_distances, ten_fold
from distill.export.safe_tensors import load_weights
from distill.pipeline.training import NETWORK
from teachers.embedder import Embedder, TorchEmbedder
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

Scores = dict[str, dict[str, float]]
"""By set: ``accuracy`` and ``tar``, the TAR at FAR 1e-2; of all pairs at 1e-2, 1e-3 and 1e-4."""
FAR = 0.01


class Scorer:
    """Scores networks on the sets of a workspace."""

    def __init__(self, workspace: Workspace, sets: list[str]) -> None:
        folder = workspace.datasets / "faces"
        self.workspace, self.remembered = workspace, workspace.root / "scores"
        self.sets = {name: _open(folder, name) for name in sets}

    def results(self, students: list[Student], teacher: str) -> list[dict[str, Any]]:
        """The teacher, then every row of every student with the scores of each seed."""
        embedder = OnnxEmbedder(
            self.workspace.teachers / teacher, Preprocessing(colour="RGB", mean=0.0, std=1.0)
        )
        rows: list[dict[str, Any]] = [
            {"student": None, "row": f"teacher {teacher}", "seeds": {"-": self.scores(embedder)}}
        ]
        for student in students:
            for row in ROWS:
                seeds = {str(seed): self._trained(student, row, seed) for seed in student.seeds}
                there = {seed: scores for seed, scores in seeds.items() if scores is not None}
                if there:
                    rows.append({"student": student.name, "row": row.title, "seeds": there})
        return rows

    def scores(self, embedder: Embedder) -> Scores:
        """On all sets; remembered by the digest of the network."""
        known = self._remembered(embedder.digest)
        if known is not None:
            return known
        scores = {name: _score(embedder, each) for name, each in self.sets.items()}
        self.remembered.mkdir(exist_ok=True)
        with atomic_file(self.remembered / f"{embedder.digest}.json") as file:
            file.write(json.dumps(scores).encode())
        return scores

    def _remembered(self, digest: str) -> Scores | None:
        path = self.remembered / f"{digest}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def curves(self, student: Student) -> dict[str, list[tuple[float, float]]]:
        """(Epochs, mean accuracy on the sets of pairs) in the course of training, first seed.

        A line a chain of recipes, under the name of the first: the others go on where it ended.
        """
        curves: dict[str, list[tuple[float, float]]] = {}
        for recipes in chains(student.recipes):
            jobs = [job_name(student, recipe, student.seeds[0]) for recipe in recipes]
            curves[recipes[0]] = _curve(
                [self.workspace.runs / job / "metrics.jsonl" for job in jobs]
            )
        return curves

    def _trained(self, student: Student, row: Row, seed: int) -> Scores | None:
        """The scores of a row's network; None where it is not trained yet."""
        run = self.workspace.runs / job_name(student, row.recipe, seed)
        folder = _last_stages(run).get(row.generation)
        if folder is None:
            return None
        known = self._remembered(folder.name)
        if known is not None or not (folder / NETWORK).exists():
            return known
        side = (student.side, student.side)
        network = create(student.backbone, 128, side, student.width)
        load_weights(folder / NETWORK, network)
        return self.scores(TorchEmbedder(network, Preprocessing.ours(side), folder.name))


def _open(folder: Path, name: str) -> VerificationPairs | ImageSet:
    pairs = folder / f"{name}.bin"
    return read_pairs(pairs) if pairs.exists() else open_images(folder / f"{name}.lmdb")


def _score(embedder: Embedder, each: VerificationPairs | ImageSet) -> dict[str, float]:
    if isinstance(each, VerificationPairs):
        features = embed_distinct(embedder, each.images, each.name)
        distances = squared_distances(features[::2], features[1::2])
        return {
            "accuracy": ten_fold(distances, each.same).accuracy,
            "tar": _tar(cosine_of(distances), each.same),
        }
    features = embed_encoded(embedder, each.read, range(len(each)), each.name)
    rates = all_pairs(features, np.asarray(each.labels))["tar_at_far"]
    return {f"tar@{far}": rates[far]["tar"] for far in ("1e-2", "1e-3", "1e-4")}


def _tar(cosines: np.ndarray, same: np.ndarray) -> float:
    """TAR at FAR 1e-2 also where that allows fewer than the ten impostors that the product asks
    for: six or seven of these sets, so a point of it is worth less than one of all pairs."""
    genuine, impostors = np.sort(cosines[same]), np.sort(cosines[~same])[::-1]
    return share_above(genuine, float(impostors[int(FAR * len(impostors))]))


def _last_stages(run: Path) -> dict[int, Path]:
    """The folder of each generation's last stage, of a job that has begun."""
    steps = run / "steps.json"
    if not steps.exists():
        return {}
    trained = [step for step in json.loads(steps.read_text()) if step["kind"] == "distil"]
    finished = {step["name"]: step for step in trained if step["state"] in ("done", "reused")}
    last = {int(step["name"].split()[1]): step["name"] for step in trained}
    return {
        generation: Path(finished[name]["path"])
        for generation, name in last.items()
        if name in finished
    }


def _curve(metrics: list[Path]) -> list[tuple[float, float]]:
    """Epochs count on from one training to the next, and from one job to the next."""
    points, before, epoch, step = [], 0.0, 0.0, None
    there = [path for path in metrics if path.exists()]
    for values in [json.loads(line) for path in there for line in path.read_text().splitlines()]:
        if values["step"] != step:
            step, before, epoch = values["step"], before + epoch, 0.0
        epoch = values.get("epoch", epoch)
        if "score" in values:
            points.append((before + epoch, values["score"]))
    return points
