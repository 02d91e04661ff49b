"""The cost of a job, step by step, before it runs: time, memory, disk.

Finished steps are found by their inputs, as the job will find them. For the others, a few steps of
each kind are measured within a time limit.
"""

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import nearest_folder
from curation.workspace import Workspace
from distill.evaluation.features import mirrored_seconds
from distill.evaluation.set_features import FEATURES, NetworkFeatures, kept_bytes, open_sets
from distill.export.exporter import DEFAULT_FORMATS, exporters
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import Fit, ranks_of, student_architecture
from distill.pipeline.measuring import (
    DrawnAnswers,
    export_time,
    pictures_in,
    scoring_seconds,
    step_time,
    teacher_seconds,
)
from distill.pipeline.peak_memory import PeakMemory
from distill.pipeline.planning import (
    candidate_name,
    choice_name,
    guided,
    needs_teacher,
    stage_name,
)
from distill.pipeline.steps import RESULT, StepStore
from distill.pipeline.teacher_answers import required_answers
from distill.pipeline.training import (
    CHECKPOINTS,
    Guidance,
    Stage,
    TrainedNetwork,
    student_stage,
    teacher_stage,
)
from distill.pipeline.training_images import open_training_images
from distill.run_directory import SPEC, read_steps
from distill.spec import JobSpec
from distill.spec_checks import evaluation_sets, interval_protocols, interval_sets
from distill.spec_source import read_spec
from distill.spec_text import parse_spec
from distill.training.checkpoints import steps_saved
from distill.training.config import checkpoints_kept
from distill.training.plan import create_plan
from teachers.augment.augmentation import Augmentation
from teachers.embedder import Embedder, TorchEmbedder
from teachers.embeddings import cache_digest, missing_bytes, missing_pictures
from teachers.trial import trial_size

LIMIT = 60.0
"""Approximate duration of the measurement, in seconds"""
_LEFT_FOR_THE_END = 0.4
"""Share of the limit reserved for evaluation and export"""


@dataclass(frozen=True)
class StepCost:
    """One step: ``state`` is done, begun or waiting; ``seconds`` is None if unknown."""

    name: str
    kind: str
    state: str = "waiting"
    seconds: float | None = 0.0
    disk_bytes: int = 0
    note: str = ""


@dataclass
class JobCost:
    """The cost of each step of a job, and their total needs."""

    steps: list[StepCost] = field(default_factory=list)
    cache_bytes: int = 0
    training_bytes: int = 0
    """What the largest training step needs on the GPU, or in memory without one"""
    memory_bytes: int = 0
    gpu_memory_bytes: int | None = None
    free_bytes: int = 0
    measured_seconds: float = 0.0

    @property
    def seconds(self) -> float | None:
        """The total of all steps; None if one is unknown."""
        found = [each.seconds for each in self.steps]
        return None if None in found else sum(each for each in found if each is not None)

    @property
    def disk_bytes(self) -> int:
        """Additional disk space in the workspace."""
        return sum(each.disk_bytes for each in self.steps)


def estimate(spec: JobSpec, workspace: Workspace, fit: Fit, limit: float = LIMIT) -> JobCost:
    """The cost of a job that passed ``check_fit``. Writes nothing to the workspace."""
    began = time.monotonic()
    with PeakMemory() as memory:
        found = _Estimating(spec, workspace, fit, began + limit).run()
    if memory.gpu_bytes is None:
        found.memory_bytes = max(memory.bytes, found.training_bytes)
    else:
        found.memory_bytes = memory.bytes
        found.gpu_memory_bytes = max(memory.gpu_bytes, found.training_bytes)
    found.free_bytes = shutil.disk_usage(nearest_folder(workspace.root)).free
    found.measured_seconds = time.monotonic() - began
    return found


@dataclass(frozen=True)
class _Timed:
    """A training's seconds per step, or why they are unknown.

    ``state`` and ``weights`` are the bytes of a checkpoint and of the result.
    """

    seconds: float | None
    state: int = 0
    weights: int = 0
    note: str = ""


class _Estimating:
    def __init__(self, spec: JobSpec, workspace: Workspace, fit: Fit, end: float) -> None:
        self.spec, self.workspace, self.fit, self.end = spec, workspace, fit, end
        self.images = open_training_images(self.spec.data, workspace)
        self.store, self.ranks = StepStore(workspace.steps), ranks_of(self.spec)
        sources = [*evaluation_sets(self.spec, workspace).values()]
        self.sets = open_sets(sources, self.spec.evaluate.protocols)
        self.pairs = open_sets(
            tuple(interval_sets(self.spec, workspace).values()), interval_protocols(self.spec)
        )
        self.found = JobCost()
        self.timed: dict[int, _Timed] = {}
        self.recorded = _recorded(spec, workspace)
        self.all_done = True

    def run(self) -> JobCost:
        teacher, known = self._teacher()
        answers = None
        if teacher is not None and self.spec.student is not None and guided(self.spec):
            answers = self._embed(teacher, known)
        student = None
        if self.spec.student is not None:
            length = None if teacher is None else teacher.embedding
            student = student_architecture(self.spec, length, self.fit.old)
            assert student is not None
            self._generations(student, answers, teacher)
        last = student
        if last is None:  # the job only trains a teacher
            assert self.spec.teacher is not None
            assert self.spec.teacher.network is not None
            last = Architecture.resolve(self.spec.teacher.network)
        self._end(teacher, last, known)
        return self.found

    def _add(self, step: StepCost) -> None:
        self.found.steps.append(step)
        self.all_done = self.all_done and step.state == "done"

    def _teacher(self) -> tuple[Embedder | None, bool]:
        """The teacher, and whether it is the one that the job will use."""
        spec = self.spec.teacher
        if spec is None:
            return None, True
        if spec.network is None:
            return self.fit.teacher, True
        stage = self._evaluated(teacher_stage(spec))
        trained = self._training("teach", "teach", stage, None, -1)
        if trained is not None and self.all_done:
            return trained.embedder(), True
        network = stage.architecture.unweighted.build()
        return TorchEmbedder(network, stage.architecture.preprocessing, "to be trained"), False

    def _embed(self, teacher: Embedder, known: bool) -> DrawnAnswers | None:
        """A stand-in for the embeddings that the student learns from; None if they are online."""
        spec, augment = self.spec.teacher, self.spec.augment
        assert spec is not None
        trial = trial_size(self.images)
        if spec.answers == "online":
            seconds = trial * teacher_seconds(teacher, self.images, None)
            note = "a trial of the teacher, which then runs at every step"
            step = StepCost("embed", "embed", "waiting", seconds, 0, note)
            if self._is_recorded("embed"):
                step = StepCost("embed", "embed", "done")
            self.found.steps.append(step)  # trainings do not depend on it
            return None
        needed = required_answers(self.images, augment, spec.precision)
        root = self.workspace.cache if known else Path("nowhere")
        pictures = missing_pictures(teacher, self.images, root, needed)
        size = missing_bytes(teacher, self.images, root, needed)
        digest = cache_digest(teacher, self.images, needed[0])
        if pictures:
            views = Augmentation(augment.strengths, self.images) if len(needed) > 1 else None
            each = teacher_seconds(teacher, self.images, views)
            note = f"{pictures:,} images, {1 / each:,.1f} a second in one process"
            seconds = (trial + pictures / self.ranks) * each
            step = StepCost("embed", "embed", "waiting", seconds, size, note)
            self._add(step)
        else:
            self._add(StepCost("embed", "embed", "done"))
        self.found.cache_bytes = size
        return DrawnAnswers(digest, teacher.embedding)

    def _generations(
        self, student: Architecture, answers: DrawnAnswers | None, teacher: Embedder | None
    ) -> None:
        start: TrainedNetwork | None = None
        spec, known = self.spec, self.all_done
        for generation in range(1, spec.generations.count + 1):
            candidates: dict[str, TrainedNetwork | None] = {}
            for seed in spec.seeds:
                trained = start
                for index in range(len(spec.stage)):
                    name = stage_name(spec, generation, seed, index)
                    stage = self._student_stage(index, seed, student, trained, answers, teacher)
                    trained = self._training(name, "distil", stage, answers, index, known)
                    known = known and trained is not None
                candidates[candidate_name(spec, generation, seed)] = trained
            start = next(iter(candidates.values()))
            if spec.generations.scored:
                start = self._choice(generation, candidates, student)
                known = known and start is not None

    def _student_stage(
        self,
        index: int,
        seed: int,
        student: Architecture,
        start: TrainedNetwork | None,
        answers: DrawnAnswers | None,
        teacher: Embedder | None,
    ) -> Stage:
        guidance = None
        if needs_teacher(self.spec.stage[index]):
            if answers is None:
                assert teacher is not None
                digest = cache_digest(teacher, self.images)
                guidance = Guidance(online=teacher, digest=digest)
            else:
                guidance = Guidance((answers,) * (self.spec.augment.answered or 0))
        stage = student_stage(self.spec, index, seed, student, start)
        return self._evaluated(replace(stage, guidance=guidance, old=self.fit.old))

    def _evaluated(self, stage: Stage) -> Stage:
        return replace(stage, evaluation=tuple(interval_sets(self.spec, self.workspace).values()))

    def _training(
        self,
        name: str,
        kind: str,
        stage: Stage,
        answers: DrawnAnswers | None,
        number: int,
        known: bool = True,
    ) -> TrainedNetwork | None:
        """Add a training; returns the network it produces, as later steps refer to it."""
        if stage.guidance is None:
            answers = None
        steps = (
            stage.epochs
            * create_plan(self.images, stage.settings, stage.sampler, self.ranks).steps_per_epoch
        )
        folder = self.store.folder(kind, stage.inputs(self.images, answers))
        if known and (folder / RESULT).is_file():
            self._add(StepCost(name, kind, "done"))
            return TrainedNetwork(stage.architecture, folder, folder.name)
        checkpoints = steps_saved(folder / CHECKPOINTS) if known else []
        saved = max(checkpoints, default=0)
        if number not in self.timed:
            self.timed[number] = self._time(stage, answers)
        timed, left = self.timed[number], max(0, steps - saved)
        seconds = None if timed.seconds is None else timed.seconds * left
        if seconds is not None and (every := stage.settings.evaluate_every) is not None:
            evaluations = -(-steps // every) - saved // every  # the last is after the last step
            seconds += evaluations * self._scoring(stage.architecture)
        note = f"{left:,} steps"
        if timed.seconds is not None:
            note += f" of {_precise(timed.seconds)} s"
        note += timed.note
        new = max(0, checkpoints_kept(stage.settings, steps) - len(checkpoints))
        disk = new * timed.state + timed.weights
        self._add(StepCost(name, kind, "begun" if saved else "waiting", seconds, disk, note))
        return TrainedNetwork(stage.architecture, folder, folder.name) if known else None

    def _time(self, stage: Stage, answers: DrawnAnswers | None) -> _Timed:
        need, room = self._needed(stage), _available_memory()
        if need > room:
            note = (
                f"; not measured, as it takes {need / 1e9:,.0f} GB and {room / 1e9:,.0f} are free"
            )
            return _Timed(None, note=note)
        trainings = len(self.spec.stage) + (
            self.spec.teacher is not None and self.spec.teacher.network is not None
        )
        left = (self.end - time.monotonic()) * (1 - _LEFT_FOR_THE_END)
        budget = max(3.0, left / max(1, trainings - len(self.timed)))
        fresh = replace(
            stage,
            start=None,
            optimiser="fresh",
            settings=stage.settings.model_copy(update={"evaluate_every": None, "keep": "last"}),
        )
        measured = step_time(fresh.training(self.images, answers), self.ranks, budget)
        self.found.training_bytes = max(self.found.training_bytes, measured.memory)
        share = stage.settings.batch_size // self.ranks
        note = "" if measured.images == share else f", measured on {measured.images} of {share}"
        return _Timed(measured.seconds, measured.state, measured.weights, note)

    def _needed(self, stage: Stage) -> int:
        """Bytes of the class weights, their gradients and the optimiser's copies."""
        if not any(loss.needs_centres for loss in stage.losses.values()):
            return 0
        return 4 * 4 * self.images.identities * stage.architecture.embedding

    def _scoring(self, architecture: Architecture) -> float:
        """Seconds of an evaluation on the sets of pairs."""
        return self._embedding_seconds(architecture) * pictures_in(self.pairs)

    def _embedding_seconds(self, architecture: Architecture) -> float:
        network = architecture.unweighted.build()
        return mirrored_seconds(TorchEmbedder(network, architecture.preprocessing, "untrained"))

    def _choice(
        self,
        generation: int,
        candidates: dict[str, TrainedNetwork | None],
        student: Architecture,
    ) -> TrainedNetwork | None:
        """Add the comparison of candidates; returns the best, if it is known."""
        name = choice_name(generation)
        recorded = self.recorded.get(name, {})
        scores = recorded.get("scores") or {}
        if self.all_done and recorded.get("state") in ("done", "reused") and scores:
            self._add(StepCost(name, "choose", "done"))
            best = max(scores, key=lambda each: scores[each])
            return candidates.get(best, next(iter(candidates.values())))
        seconds = len(candidates) * self._scoring(student)
        self._add(StepCost(name, "choose", "waiting", seconds))
        return None

    def _end(self, teacher: Embedder | None, last: Architecture, known: bool) -> None:
        """Add evaluation and export."""
        for name in ("evaluate", "export"):
            if not (self.all_done and self._is_recorded(name)):
                break
            self._add(StepCost(name, name, "done"))
        else:
            return
        comparing, evaluation = scoring_seconds(self.sets, last.embedding)
        if name == "evaluate":
            seconds, disk = self._evaluating(teacher, last, known, comparing)
            self._add(StepCost(name, name, "waiting", seconds, disk))
        self._add(self._export(last, evaluation))

    def _evaluating(
        self, teacher: Embedder | None, last: Architecture, known: bool, comparing: float
    ) -> tuple[float, int]:
        """Seconds to evaluate all networks, and bytes of their cached features; ``comparing`` is
        the part that compares scores."""
        students = self.spec.generations.count if self.spec.student is not None else 1
        students += self.fit.old is not None
        pictures = pictures_in(self.sets)
        seconds = students * (comparing + pictures * self._embedding_seconds(last))
        kept = students * sum(kept_bytes(each, last.embedding) for each in self.sets)
        if teacher is None or self.spec.student is None:
            return seconds, kept
        answers = NetworkFeatures(teacher, self.workspace.cache / FEATURES if known else None)
        unknown = [each for each in self.sets if not answers.knows(each)]
        asking = pictures_in(unknown) * mirrored_seconds(teacher) if unknown else 0.0
        kept += sum(kept_bytes(each, teacher.embedding) for each in unknown)
        return seconds + comparing + asking, kept

    def _export(self, last: Architecture, evaluation: dict[str, Any]) -> StepCost:
        formats = self.spec.export.formats
        measured = [name for name in formats if not exporters()[name].calibrated]
        left = " and ".join(name for name in formats if name not in measured)
        note = f"without {left}, which trained weights and faces decide" if left else ""
        try:
            seconds, size = export_time(
                last, self.images.image_size, measured or DEFAULT_FORMATS, evaluation
            )
        except (UserError, OSError) as error:
            return StepCost("export", "export", "waiting", None, 0, f"not measured: {error}")
        return StepCost("export", "export", "waiting", seconds, size, note)

    def _is_recorded(self, name: str) -> bool:
        return self.recorded.get(name, {}).get("state") in ("done", "reused")


def _recorded(spec: JobSpec, workspace: Workspace) -> dict[str, dict[str, Any]]:
    """The steps of an earlier run of the same spec, by name."""
    run = workspace.runs / spec.name
    try:
        same = parse_spec(read_spec(run / SPEC), str(run / SPEC)) == spec
    except UserError:  # there was no earlier run, or it has another version
        return {}
    return {each["name"]: each for each in read_steps(run)} if same else {}


def _available_memory() -> int:
    import psutil

    return psutil.virtual_memory().available


def _precise(seconds: float) -> str:
    return f"{seconds:.3g}"
