"""A few timed steps of each kind of work, the basis of a job's estimate."""

import copy
import io
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from curation.bad_images import read_pixels
from curation.pairs import VerificationPairs
from curation.progress import Progress
from curation.views import ImageSet
from distill.evaluation.evaluate_sets import evaluate, score_all
from distill.evaluation.features import Embedded
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.set_features import EvaluationSet, distinct_images, image_count
from distill.export.bundle import export_bundle
from distill.pipeline.architecture import Architecture
from distill.pipeline.peak_memory import private_bytes
from distill.pipeline.teacher_answers import pictures_per_second
from distill.pipeline.work import bundle_config
from distill.training.data import Batch, BatchLoader, Shard
from distill.training.engine import Engine
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.loop import Training, create_learner
from distill.training.memory import keep_freed_memory
from distill.training.plan import create_plan
from teachers.augment.augmentation import Augmentation
from teachers.embedder import Embedder

MOST_STEPS, ENOUGH_SECONDS = 20, 8.0
"""Limits of a training's measurement"""
FEW = 16
"""Images of the first, small step, which predicts the time of a full one"""
LEAST_UNITS = 4
"""Identities, or images, of a micro-batch of that step; batch normalisation needs two in half."""
READ = 32
"""Number of images decoded one after another"""
DRAWN_VECTORS = 1024
MOST_COMPARED = 4000
"""Number of images up to which all pairs are compared; the time grows with its square, that of the
intervals with the number."""


class DrawnAnswers:
    """A stand-in for embeddings that do not exist yet: unit vectors derived from the row number."""

    def __init__(self, digest: str, embedding: int) -> None:
        self.digest, self.embedding = digest, embedding

    @cached_property
    def _drawn(self) -> np.ndarray:
        return _unit_vectors(DRAWN_VECTORS, self.embedding)

    def vectors(self, rows: np.ndarray, answers: np.ndarray | slice | int) -> np.ndarray:
        found = self._drawn[rows % DRAWN_VECTORS].astype(np.float16)
        return found[:, None].repeat(2, axis=1) if isinstance(answers, slice) else found


@dataclass(frozen=True)
class StepTime:
    """Seconds of a training step, measured on ``images`` of its batch.

    ``state`` and ``weights`` are the bytes of a checkpoint and of the result, ``memory`` those that
    the whole batch needs, on the GPU if there is one.
    """

    seconds: float
    images: int
    state: int
    weights: int
    memory: int


def step_time(training: Training, ranks: int, budget: float) -> StepTime:
    """Time one rank's step at the batch size of the settings, in about ``budget`` seconds.

    A step that would take too long is measured on a part of its batch. This trains the network,
    which must be discarded.
    """
    end = time.monotonic() + budget
    settings = training.settings.model_copy(update={"engine": "torch"})
    keep_freed_memory()
    plan = create_plan(training.images, settings, training.sampler, ranks)
    learner = create_learner(training)
    loader = BatchLoader(
        training.images,
        training.preprocessing,
        plan,
        training.answers,
        settings.decode_threads,
        Shard(0, ranks),
        training.views,
    )
    unit = settings.accumulate * (training.sampler.images or 1)
    with loader:
        engine = create_engine(learner, settings)
        learner.train()
        timer = _StepTimer(engine, settings.learning_rate * 1e-6, plan.batch_size // ranks, end)
        seconds, images, memory = timer.measure(loader.batches(0, MOST_STEPS + 2), unit)
    average = copy.deepcopy(learner.network.state_dict()) if settings.ema else None
    state = saved_bytes({"engine": engine.state(), "average": average})
    return StepTime(seconds, images, state, weights_bytes(learner), memory)


@dataclass(frozen=True)
class _StepTimer:
    """Times the steps of ``engine`` on batches of ``share`` images, until ``end``."""

    engine: Engine
    learning_rate: float
    share: int
    end: float

    def measure(self, batches: Iterator[Batch], unit: int) -> tuple[float, int, int]:
        """Seconds of a step, the number of images, a multiple of ``unit``, that it was measured on,
        and bytes of memory; seconds and bytes are those of a whole batch."""
        first = next(batches)
        few = min(self.share, max(LEAST_UNITS, -(-FEW // unit)) * unit)
        half, used_by_half = few // 2 // unit * unit, 0
        if few < self.share:
            self._step(first, half)
            used_by_half = _used_memory()
        self._step(first, few)
        expected = self._step(first, few) * self.share / few
        affordable = max(0.0, self.end - time.monotonic())
        if 2 * expected <= affordable or few == self.share:
            self._step(first, self.share)  # allocates its memory
            return self._mean(batches, expected), self.share, _used_memory()
        size = max(few, int(self.share * affordable / (2 * expected)) // unit * unit)
        if size > few:
            self._step(first, size)
        seconds = self._step(first, size) * self.share / size
        used = _used_memory()
        each = max(0, used - used_by_half) / (size - half)
        return seconds, size, used + int(each * (self.share - size))

    def _mean(self, batches: Iterator[Batch], expected: float) -> float:
        """Mean seconds of whole steps, each of about ``expected`` seconds, while time is left."""
        began, done = time.monotonic(), 0
        for batch in batches:
            self._step(batch, self.share)
            done += 1
            now = time.monotonic()
            if now + expected > self.end or now - began > ENOUGH_SECONDS:
                break
        return (time.monotonic() - began) / max(1, done)

    def _step(self, batch: Batch, size: int) -> float:
        """Seconds of a step on the first ``size`` images of the batch."""
        began = time.monotonic()
        report = self.engine.step(_part(batch, size), self.learning_rate)
        float(report.gradient_norm)  # waits for the GPU
        return time.monotonic() - began


def _used_memory() -> int:
    """Bytes of this process at most so far on its GPU, or without one its private memory now, from
    which nothing is returned between two steps."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return private_bytes(psutil.Process())


def _part(batch: Batch, size: int) -> Batch:
    return replace(
        batch,
        pixels=batch.pixels[:size],
        labels=batch.labels[:size],
        teacher=None if batch.teacher is None else batch.teacher[:size],
        indices=batch.indices[:size],
        label_weights=None if batch.label_weights is None else batch.label_weights[:size],
    )


class _Counting(io.RawIOBase):
    """A file that keeps nothing but its size."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        count = memoryview(content).nbytes
        self.size += count
        return count


def saved_bytes(state: Any) -> int:
    """The size of a file with this state."""
    file = _Counting()
    # torch's types ask for a whole IO[bytes]; it only writes.
    torch.save(state, file)  # type: ignore[arg-type]
    return file.size


def weights_bytes(learner: Learner) -> int:
    """The size of the weights that a training delivers: the network, and those of its losses."""
    modules = (learner.network, learner.losses)
    return sum(each.nbytes for module in modules for each in module.state_dict().values())


def teacher_seconds(
    teacher: Embedder, images: ImageSet, augmentation: Augmentation | None
) -> float:
    """Seconds to read one image, augment it if asked, and embed it in a single process."""
    chosen = np.random.default_rng(0).integers(0, len(images), READ)
    began = time.monotonic()
    pictures = [read_pixels(images, index) for index in chosen.tolist()]
    if augmentation is not None:
        augmentation.views(pictures, augmentation.changes(images.rows[chosen], 0))
    reading = (time.monotonic() - began) / READ
    answering = 1 / pictures_per_second(teacher)
    return max(reading / 2, answering) if teacher.on_gpu else reading + answering


class _DrawnFeatures:
    """`SetFeatures` with random vectors, available immediately."""

    embedder = preprocessing = "drawn"

    def __init__(self, embedding: int) -> None:
        self._embedding = embedding

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        return _unit_vectors(image_count(each), self._embedding)

    def embedded(self, each: EvaluationSet, progress: Progress | None = None) -> Embedded:
        unit = self.features(each)
        return Embedded(unit, np.ones(len(unit), np.float32))

    def check(self, each: EvaluationSet) -> None:
        pass


def scoring_seconds(sets: Sequence[EvaluationSet], embedding: int) -> tuple[float, dict[str, Any]]:
    """The time to compare embeddings, and the scores of random vectors."""
    began = time.monotonic()
    pairs = [each for each in sets if isinstance(each, VerificationPairs)]
    evaluation = evaluate(_DrawnFeatures(embedding), pairs)
    seconds = time.monotonic() - began
    for each in sets:
        if isinstance(each, ImageSet):
            seconds += _all_pairs_seconds(each, embedding)
        elif isinstance(each, ProtocolSet):
            seconds += _protocol_seconds(each, embedding)
    return seconds, evaluation


def _all_pairs_seconds(images: ImageSet, embedding: int) -> float:
    count = min(len(images), MOST_COMPARED)
    labels = np.asarray(images.labels)[:count]
    drawn, ratio = _unit_vectors(count, embedding), len(images) / count
    began = time.monotonic()
    score_all(drawn, labels, intervals=False)
    scan = time.monotonic() - began
    score_all(drawn, labels)
    whole = time.monotonic() - began - scan
    return scan * ratio**2 + max(0.0, whole - scan) * ratio


def _protocol_seconds(each: ProtocolSet, embedding: int) -> float:
    began = time.monotonic()
    evaluate(_DrawnFeatures(embedding), [each])
    return time.monotonic() - began


def pictures_in(sets: Sequence[EvaluationSet]) -> int:
    """The number of distinct images."""
    return sum(map(distinct_images, sets))


def export_time(
    architecture: Architecture,
    image_size: tuple[int, int],
    formats: Sequence[str],
    evaluation: Mapping[str, Any],
) -> tuple[float, int]:
    """Seconds to export such a network, and the size of its bundle in bytes."""
    network = architecture.unweighted.build()
    config = bundle_config(architecture, image_size)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        bundle = export_bundle(
            Path(folder) / "bundle", network, config, dict(evaluation), {}, "estimate", formats
        )
        seconds = time.monotonic() - began
        return seconds, sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())


def _unit_vectors(count: int, length: int) -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((count, length), np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
