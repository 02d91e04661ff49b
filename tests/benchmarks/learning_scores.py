"""Scores of the networks of `just bench-learning`, each computed once and stored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from learning_degraded import DEGRADATIONS, degraded
from learning_recipes import RECIPES, Student, job_name
from learning_results import TEACHER, Key, Points, Result, Scores, over_seeds
from learning_rows import controls_of, is_degraded

from curation.files import atomic_file
from curation.image_set import ImageSet
from curation.images import decode
from curation.pairs import VerificationPairs, read_pairs
from curation.views import open_images
from curation.workspace import Workspace
from distill.backbones import create
from distill.evaluation.all_pairs import all_pairs
from distill.evaluation.bootstrap import interval
from distill.evaluation.paired import drawn_mean_accuracies
from distill.evaluation.rates import share_above
from distill.evaluation.set_features import FEATURES, NetworkFeatures
from distill.evaluation.thresholds import cosine_of
from distill.evaluation.verification import squared_distances, ten_fold
from distill.export.safe_tensors import load_weights
from distill.pipeline.training import NETWORK
from teachers.embedder import Embedder, TorchEmbedder, normalise
from teachers.embeddings import cache_embeddings
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

FAR = 0.01
ANGULAR = "angular"
EVERY = 5
"""One training image in this many is compared with the teacher's embedding, for "angular"."""
PAIRS = ("lfw", "cfp_ff", "cfp_fp")
SETS = (*PAIRS, "test")
DEGRADED_SETS = tuple(f"{each}, {name}" for name in DEGRADATIONS for each in PAIRS)


class Scorer:
    """Scores networks on the sets of a workspace.

    For pairs ``accuracy`` and ``tar``, the TAR at FAR 1e-2; for all pairs of the test images the
    TAR at 1e-2, 1e-3 and 1e-4; as "angular" the loss against the teacher, weight 1, on plain
    images.
    """

    def __init__(self, workspace: Workspace, teacher: str) -> None:
        self.workspace, self.remembered = workspace, workspace.root / "scores"
        self.teacher = teacher

    def of_teacher(self) -> Result:
        """On the undegraded sets only: a teacher is slow, and not part of the comparison."""
        return over_seeds(TEACHER, self.teacher, 1, [self.scores(self._teacher(), SETS)], [])

    def _teacher(self) -> OnnxEmbedder:
        file = self.workspace.teachers / self.teacher
        return OnnxEmbedder(file, Preprocessing(colour="RGB", mean=0.0, std=1.0))

    def results(self, students: Sequence[Student], seeds: Sequence[int]) -> list[Result]:
        """All trained generations of every recipe."""
        found, draws = [], {}
        for student in students:
            for recipe in student.recipes:
                runs = [self.workspace.runs / job_name(student, recipe, seed) for seed in seeds]
                for generation in range(1, RECIPES[recipe].generations + 1):
                    networks = [self._network(student, generation, run) for run in runs]
                    there = [each for each in networks if each is not None]
                    if there:
                        scores = [self.scores(each, _sets_of(recipe)) for each in there]
                        curve = curve_of(runs[0] / "metrics.jsonl", generation)
                        found.append(over_seeds(student.name, recipe, generation, scores, curve))
                        drawn = [self._draws(each) for each in there]
                        draws[found[-1].key] = np.mean(drawn, axis=0)
        return compared(found, draws)

    def scores(self, embedder: Embedder, sets: Sequence[str]) -> Scores:
        """Stored by the digest of the network, set by set."""
        path = self.remembered / f"{embedder.digest}.json"
        known: Scores = json.loads(path.read_text()) if path.exists() else {}
        for name in sets:
            if name not in known:
                is_angular = name == ANGULAR
                known[name] = self._angular(embedder) if is_angular else self._score(embedder, name)
                self.remembered.mkdir(exist_ok=True)
                with atomic_file(path) as file:
                    file.write(json.dumps(known).encode())
        return known

    def _network(self, student: Student, generation: int, run: Path) -> TorchEmbedder | None:
        """The network of a generation; None if it is not trained yet."""
        folder = last_stages(run).get(generation)
        if folder is None or not (folder / NETWORK).exists():
            return None
        side = (student.side, student.side)
        network = create(student.backbone, 128, side, student.width)
        load_weights(folder / NETWORK, network)
        return TorchEmbedder(network, Preprocessing.ours(side), folder.name)

    def _draws(self, embedder: Embedder) -> np.ndarray:
        """The mean accuracy on the sets of pairs in each bootstrap draw of people; stored."""
        path = self.remembered / f"{embedder.digest}.draws.npy"
        if not path.exists():
            pairs = [read_pairs(self._file(name)) for name in PAIRS]
            features = [self._features(embedder, each) for each in pairs]
            with atomic_file(path) as file:
                np.save(file, drawn_mean_accuracies(features, pairs))
        return np.load(path)

    def _features(self, embedder: Embedder, each: VerificationPairs | ImageSet) -> np.ndarray:
        return NetworkFeatures(embedder, self.workspace.cache / FEATURES).features(each)

    def _angular(self, embedder: Embedder) -> dict[str, float]:
        """On a part of the training images, and on the test images."""
        folder, found = self.workspace.datasets / "faces", {}
        for name, step in {"train": EVERY, "test": 1}.items():
            images = open_images(folder / f"{name}.lmdb")
            cache = cache_embeddings(self._teacher(), images, self.workspace.cache)
            chosen = np.arange(0, len(images), step)
            answers = normalise(cache.vectors(chosen, 0).astype(np.float32))
            found[name] = float(
                2 - 2 * (_upright(embedder, images, chosen) * answers).sum(1).mean()
            )
        return found

    def _score(self, embedder: Embedder, name: str) -> dict[str, float]:
        each = self._open(name)
        features = self._features(embedder, each)
        if isinstance(each, VerificationPairs):
            distances = squared_distances(features[::2], features[1::2])
            return {
                "accuracy": ten_fold(distances, each.same).accuracy,
                "tar": _tar(cosine_of(distances), each.same),
            }
        rates = all_pairs(features, np.asarray(each.labels))["tar_at_far"]
        return {f"tar@{far}": rates[far]["tar"] for far in ("1e-2", "1e-3", "1e-4")}

    def _open(self, name: str) -> VerificationPairs | ImageSet:
        of, *degradation = name.split(", ")
        if of not in PAIRS:
            return open_images(self.workspace.datasets / "faces" / f"{of}.lmdb")
        pairs = read_pairs(self._file(of))
        return degraded(pairs, degradation[0]) if degradation else pairs

    def _file(self, pairs: str) -> Path:
        return self.workspace.datasets / "faces" / f"{pairs}.bin"


def _sets_of(recipe: str) -> tuple[str, ...]:
    """The sets its networks are scored on."""
    return (*SETS, ANGULAR, *DEGRADED_SETS) if is_degraded(recipe) else SETS


def compared(results: Sequence[Result], draws: Mapping[Key, np.ndarray]) -> list[Result]:
    """``results`` with their ``differences``, by their mean accuracies [DRAWS] in the bootstrap."""
    by_key = {each.key: each for each in results}
    return [replace(each, differences=_differences(each, by_key, draws)) for each in results]


def _differences(
    result: Result, results: Mapping[Key, Result], draws: Mapping[Key, np.ndarray]
) -> dict[str, tuple[float, float, float]]:
    found = {}
    for recipe in controls_of(result.recipe, result.generation):
        control = results.get((result.student, recipe, 1))
        if control is not None:
            gain = np.mean([(result.mean(each) or 0) - (control.mean(each) or 0) for each in PAIRS])
            low, high = interval(draws[result.key] - draws[control.key])
            found[recipe] = (round(float(gain), 5), round(low, 5), round(high, 5))
    return found


def _upright(embedder: Embedder, images: ImageSet, chosen: np.ndarray) -> np.ndarray:
    """Unit embeddings float32 [n, D] of the undegraded images."""
    resize = embedder.preprocessing.resize
    parts = [
        embedder.embed(np.concatenate([resize(decode(images.read(int(i)))[None]) for i in part]))
        for part in np.array_split(chosen, max(1, len(chosen) // 128))
    ]
    return normalise(np.concatenate(parts))


def _tar(cosines: np.ndarray, same: np.ndarray) -> float:
    """TAR at FAR 1e-2, even if that allows fewer than the ten impostors that the product requires:
    six or seven in these sets, so a point of it is worth less than one over all pairs.
    """
    genuine, impostors = np.sort(cosines[same]), np.sort(cosines[~same])[::-1]
    return share_above(genuine, float(impostors[int(FAR * len(impostors))]))


def last_stages(run: Path) -> dict[int, Path]:
    """The folder of each generation's last stage, for a job that has begun."""
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


def curve_of(metrics: Path, generation: int) -> Points:
    """(Epochs of the generation, mean accuracy on the sets of pairs) during training."""
    points, before, epoch, step = [], 0.0, 0.0, None
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    for values in map(json.loads, lines):
        if int(values["step"].split()[1]) != generation:
            continue
        if values["step"] != step:
            step, before, epoch = values["step"], before + epoch, 0.0
        epoch = values.get("epoch", epoch)
        if "score" in values:
            points.append((round(before + epoch, 2), round(values["score"], 5)))
    return points
