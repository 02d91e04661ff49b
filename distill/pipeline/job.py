"""Runs the steps of a spec in order: teach, embed, generations with stages, evaluate, export.

Every rank runs the whole job. All ranks train and embed; rank 0 alone evaluates, exports and
writes the run directory while the others wait.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.views import ImageSet
from curation.workspace import Workspace
from distill.evaluation.doubts import doubts
from distill.evaluation.set_features import FEATURES
from distill.evaluation.set_source import SetSource
from distill.notices import Notice
from distill.pipeline.architecture import Architecture
from distill.pipeline.facts import facts, finished_steps, origin
from distill.pipeline.fit import Fit, student_architecture
from distill.pipeline.generations import Candidate, Generations, scored_candidates
from distill.pipeline.licences import licences
from distill.pipeline.planning import (
    candidate_name,
    choice_name,
    generation_steps,
    guided,
    needs_teacher,
    plan,
    stage_name,
)
from distill.pipeline.provenance import CHANGED
from distill.pipeline.record import RunRecord
from distill.pipeline.steps import StepOutcome, StepStore, give_way
from distill.pipeline.teacher_answers import (
    Question,
    of_rejected,
    required_answers,
    share_below,
    share_below_online,
)
from distill.pipeline.training import (
    Guidance,
    Stage,
    TrainedNetwork,
    student_stage,
    teacher_stage,
    train_network,
)
from distill.pipeline.training_images import open_training_images
from distill.pipeline.work import draw_scores, evaluate_network, export_network
from distill.run_directory import BUNDLE, CHECKPOINTS, EVALUATION, StepState, read_halved
from distill.spec import JobSpec
from distill.spec_checks import evaluation_sets, interval_protocols, interval_sets, selection_sets
from distill.training.distributed import on_first_rank, several_machines
from distill.training.divergence import Diverged
from distill.training.memory import give_back_memory
from distill.training.meter import Watch
from teachers.cache_files import Precision
from teachers.embedder import Embedder
from teachers.embedding_cache import Embeddings
from teachers.embeddings import cache_digest
from teachers.trial import try_teacher
from teachers.usable import UnusableEmbeddingsError

Networks = dict[str, Callable[[], Embedder]]
"""Functions that open networks, by name; only the one being scored is in memory."""


class JobRun:
    """Runs one spec in its run directory; finished steps are reused."""

    def __init__(
        self,
        spec: JobSpec,
        workspace: Workspace,
        record: RunRecord,
        fit: Fit,
        patient: bool = True,
    ) -> None:
        """``fit`` is the result of ``check_fit``.

        A ``patient`` job waits for steps that other jobs are doing; others raise ``StepBusy``.
        """
        self.spec, self.workspace, self.record = spec, workspace, record
        self.fit = fit
        busy = record.wait_for if patient else give_way
        self.steps = StepStore(workspace.steps, spec.name, busy)
        self.images: ImageSet = open_training_images(spec.data, workspace)
        self.at_intervals: dict[str, Any] = {
            "evaluation": tuple(interval_sets(spec, workspace).values()),
            "protocols": interval_protocols(spec),
            "seconds": spec.evaluate.seconds,
        }
        halved = read_halved(record.folder)
        self.halved = None if halved is None else halved.reason
        self._facts = facts(spec, self.images, fit.old)
        self.guidance: Guidance | None = None
        self.watch = Watch(record.metrics, record.progress, record.stop, record.warn)

    def run(self) -> None:
        """Run every step.

        Raises ``UserError``, ``Stopped`` if it was asked to stop, and ``StepBusy``.
        """
        self.record.begin(self.spec, plan(self.spec, len(self.images)), self._facts)
        for notice in self.fit.notices:
            self.record.warn(notice)
        teacher, trained = self._teacher()
        networks: Networks = {}
        cache = embedding = None
        if teacher is not None:
            networks["teacher"] = _opening_again(teacher) if trained is None else trained.embedder
            embedding = teacher.embedding
            if self.spec.student is not None and guided(self.spec):
                cache = self._guidance(teacher)
            teacher = None  # a large teacher needs as much memory as the student's training
        selection: dict[str, Any] = {}
        if self.spec.student is not None:
            architecture = student_architecture(self.spec, embedding, self.fit.old)
            assert architecture is not None
            if self.fit.old is not None:
                networks["old"] = self.fit.old.embedder
            generations = self._generations(architecture, cache)
            trained = generations.delivered.trained
            for each in generations.in_order_of_delivery:
                networks[each.name] = each.trained.embedder
            if self.spec.generations.scored:
                selection = {"selection": generations.record()}
        assert trained is not None, "the spec's own checks see to it"
        self._export(trained, self._evaluate(networks, selection))

    @contextmanager
    def _step(self, name: str) -> Iterator[StepState]:
        """A recorded step; frees unused memory of this process before it begins."""
        give_back_memory()
        with self.record.step(name) as state:
            yield state

    def _teacher(self) -> tuple[Embedder | None, TrainedNetwork | None]:
        spec = self.spec.teacher
        if spec is None:
            return None, None
        if spec.network is None:
            return self.fit.take_teacher(), None
        stage = replace(teacher_stage(spec), **self.at_intervals, halved=self.halved)
        trained = self._train("teach", "teach", stage, None)
        return trained.embedder(), trained

    def _guidance(self, teacher: Embedder) -> Embeddings | None:
        """The cached embeddings of the plain images for the student; None for an online teacher."""
        assert self.spec.teacher is not None
        if self.spec.teacher.answers == "online":
            with self._step("embed") as state:
                tried = on_first_rank(lambda: self._try(teacher))
                state.note = f"{tried}; it runs at every step"
                if self.spec.augment.augments:
                    arguments = (teacher, self.images, self.spec.augment)
                    state.note += self._rejected(
                        on_first_rank(lambda: share_below_online(*arguments))
                    )
            self.guidance = Guidance(online=teacher, digest=cache_digest(teacher, self.images))
            return None
        plain, *views = self._embed(teacher, self.spec.teacher.precision)
        self.guidance = Guidance(tuple(views))
        return plain

    def _embed(self, teacher: Embedder, precision: Precision) -> list[Embeddings]:
        """The caches of the plain images and of each augmented view."""
        augment, cache_root = self.spec.augment, self.workspace.cache
        answers = required_answers(self.images, augment, precision)
        with self._step("embed") as state:
            state.id = cache_digest(teacher, self.images, answers[0])
            one_store = len(self.images.store.stores) == 1
            state.path = str(cache_root / state.id if one_store else cache_root)
            tried = on_first_rank(lambda: self._try(teacher))
            question = Question(teacher, self.images, cache_root, answers)
            if cost := on_first_rank(question.cost):
                self.record.note(cost)
            computed = []

            def progress(done: int, total: int) -> None:
                computed.append(done)
                self.record.interruptible_progress(done, total)

            caches = question.ask(progress, several_machines())
            state.note = tried
            if augment.answered:
                state.note += self._rejected(share_below(caches, self.images, augment))
            if not computed:
                state.state = "reused"
        return caches

    def _rejected(self, share: float) -> str:
        """The note about the share of views that ``least_cosine`` rejects; warns if it is large."""
        note, notices = of_rejected(share, self.spec.augment)
        for notice in notices:
            self.record.warn(notice)
        return f"; {note}"

    def _try(self, teacher: Embedder) -> str:
        """A test of the teacher on a few hundred pairs; ``UserError`` if it is not usable."""
        assert self.spec.teacher is not None
        return try_teacher(
            teacher,
            self.images,
            self.workspace.cache,
            self.spec.teacher.least_accuracy,
            self.record.interruptible_progress,
        )

    def _generations(self, architecture: Architecture, cache: Embeddings | None) -> Generations:
        """Every generation with its candidates, until the last one or one without gain."""
        generations = Generations(self.spec.generations)
        for number in range(1, self.spec.generations.count + 1):
            candidates = self._candidates(number, architecture, generations.start, cache)
            if self.spec.generations.scored:
                self._choose(candidates, generations)
            else:
                generations.add(candidates)
            if reason := generations.reason_to_stop:
                rest = range(number + 1, self.spec.generations.count + 1)
                steps = [step for left in rest for step in generation_steps(self.spec, left)]
                self.record.skip([step.name for step in steps], reason)
                break
        return generations

    def _candidates(
        self,
        number: int,
        architecture: Architecture,
        start: TrainedNetwork | None,
        cache: Embeddings | None,
    ) -> list[Candidate]:
        """The candidates that did not diverge; if all did, raises the last one's error."""
        candidates: list[Candidate] = []
        for seed in self.spec.seeds:
            try:
                trained = self._generation(number, seed, architecture, start, cache)
            except Diverged as diverged:
                if not candidates and seed == self.spec.seeds[-1]:
                    raise
                self._leave_out(number, seed, str(diverged))
            else:
                name = candidate_name(self.spec, number, seed)
                candidates.append(Candidate(name, number, seed, trained))
        return candidates

    def _leave_out(self, number: int, seed: int, reason: str) -> None:
        """Skip the remaining steps of a candidate."""
        stages = range(len(self.spec.stage))
        names = {stage_name(self.spec, number, seed, index) for index in stages}
        waiting = {step.name for step in self.record.steps if step.state == "waiting"}
        self.record.skip(names & waiting, reason)

    def _choose(self, candidates: list[Candidate], generations: Generations) -> None:
        """Score the candidates of a generation and add them, as a recorded step."""
        sets = [*selection_sets(self.spec, self.workspace).values()]
        with self._step(choice_name(candidates[0].generation)) as state:
            scored, outcomes, reasons = scored_candidates(
                candidates, lambda each: self._scores(each.trained.embedder, sets)
            )
            generations.add([self._drawn(each, sets) for each in scored])
            chosen = outcomes[generations.best[-1].name]
            state.id, state.path = chosen.folder.name, str(chosen.folder)
            state.scores = {each.name: each.score for each in generations.newest}
            state.note = "; ".join([generations.note, *reasons])
            if all(outcome.reused for outcome in outcomes.values()):
                state.state = "reused"

    def _generation(
        self,
        generation: int,
        seed: int,
        architecture: Architecture,
        start: TrainedNetwork | None,
        cache: Embeddings | None,
    ) -> TrainedNetwork:
        """All stages of one generation, each starting from the previous weights."""
        trained = start
        for index, stage_spec in enumerate(self.spec.stage):
            guidance = self.guidance if needs_teacher(stage_spec) else None
            stage = replace(
                student_stage(self.spec, index, seed, architecture, trained),
                **self.at_intervals,
                guidance=guidance,
                old=self.fit.old,
                halved=self.halved,
            )
            name = stage_name(self.spec, generation, seed, index)
            trained = self._train(
                name, "distil", stage, cache if needs_teacher(stage_spec) else None
            )
        assert trained is not None
        return trained

    def _train(
        self, name: str, kind: str, stage: Stage, cache: Embeddings | None
    ) -> TrainedNetwork:
        with self._step(name) as state:

            def entered(folder: Path) -> None:
                state.id, state.path = folder.name, str(folder)
                folder.mkdir(parents=True, exist_ok=True)
                self.record.link(f"{CHECKPOINTS}/{name.replace(' ', '-')}", folder)

            if loaded := stage.beginning:
                self.record.note(loaded)
            trained, outcome = train_network(
                kind, stage, self.images, cache, self.steps, self.watch, entered
            )
            if outcome.reused:
                state.state = "reused"
        return trained

    def _evaluate(self, networks: Networks, selection: dict[str, Any]) -> dict[str, Any]:
        """Score all networks; the scores of the last are the job's. Includes ``selection``."""
        sets = [*evaluation_sets(self.spec, self.workspace).values()]
        reports, reused = {}, True
        with self._step("evaluate") as state:
            for name, opened in networks.items():
                try:
                    outcome = self._scores(opened, sets, self.spec.evaluate.protocols)
                except UnusableEmbeddingsError as error:
                    raise UnusableEmbeddingsError(f"{name}: {error}") from None
                reports[name] = outcome.result
                reused = reused and outcome.reused
                for notice in doubts(name, outcome.result):
                    self.record.warn(notice)
            state.id, state.path = outcome.folder.name, str(outcome.folder)
            if reused:
                state.state = "reused"
            evaluation = {**outcome.result, "networks": reports, **selection}
            # Changes since submission belong in the lineage; they do not affect the scores.
            if warnings := [each for each in self.record.warnings if each["key"] != CHANGED]:
                evaluation["warnings"] = warnings
            self.record.write_json(EVALUATION, evaluation)
        return evaluation

    def _scores(
        self,
        opened: Callable[[], Embedder],
        sets: Sequence[SetSource],
        protocols: Sequence[str] = (),
    ) -> StepOutcome:
        arguments = (
            self.steps,
            self.record.interruptible_progress,
            self.workspace.cache / FEATURES,
        )
        return on_first_rank(lambda: evaluate_network(opened(), sets, *arguments, protocols))

    def _drawn(self, each: Candidate, sets: Sequence[SetSource]) -> Candidate:
        """A candidate scored on ``sets``, with its bootstrap scores."""
        progress, kept = self.record.interruptible_progress, self.workspace.cache / FEATURES
        opened = each.trained.embedder
        draws = on_first_rank(lambda: draw_scores(opened(), sets, self.steps, progress, kept))
        return replace(each, draws=np.array(draws))

    def _export(self, trained: TrainedNetwork, evaluation: dict[str, Any]) -> None:
        with self._step("export") as state:
            lineage = {"job": self.spec.name, **self._facts, "steps": finished_steps(self.record)}
            terms = licences(self.spec, self.workspace)
            if any(each["licence"] is not None for each in terms):
                # Only then, so that steps done before licences existed are still found.
                lineage["licences"] = terms
            name, size, formats = self.spec.name, self.images.image_size, self.spec.export.formats
            sets = [*evaluation_sets(self.spec, self.workspace).values()]
            steps = self.steps
            outcome = on_first_rank(
                lambda: export_network(
                    name,
                    trained,
                    size,
                    evaluation,
                    lineage,
                    origin(self.spec, self.images, self.record),
                    formats,
                    sets,
                    self.images,
                    steps,
                )
            )
            state.id, state.path = outcome.folder.name, str(outcome.folder)
            self.record.link(BUNDLE, outcome.folder / "bundle")
            for each, reason in outcome.result.get("left_out", {}).items():
                text = f"the bundle has no {each} file: {reason}"
                self.record.warn(Notice(f"format {each}", text))
            if outcome.reused:
                state.state = "reused"


def _opening_again(embedder: Embedder) -> Callable[[], Embedder]:
    """A function that opens the same embedder again; keeps a graph's path or a module's weights.

    It raises ``UserError`` if the file has changed by then.
    """
    packed = pickle.dumps(embedder)
    return lambda: pickle.loads(packed)
