"""The cost of a teacher in a training step: none, cached, and ResNet-100 online.

Run: just bench-distillation-step [--batch N]. MobileFaceNet with ArcFace on 10,000 identities,
112x112, with the real loader and engine. The three alternate in one process. The figures are
CPU-milliseconds per image of the fastest step of each, and ratios to the step without a teacher.
"""

import argparse
import dataclasses
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from drawn_store import drawn_store

from curation.store import Store
from distill.backbones import create
from distill.losses import WeightedLosses, parse_losses
from distill.training.answers import CachedAnswers
from distill.training.config import TrainSettings
from distill.training.data import Batch, BatchLoader
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.memory import keep_freed_memory
from distill.training.plan import create_plan
from teachers.embedder import TorchEmbedder, module_digest, normalise
from teachers.embedding_cache import EmbeddingCache
from teachers.embeddings import cache_embeddings
from teachers.preprocessing import Preprocessing

IDENTITIES, EMBEDDING = 10_000, 512
ROUNDS, STEPS = 2, 4
"""Each round has this many steps without a teacher and with the cache, and one online"""
ARCFACE, BOTH = {"arcface": {}}, {"arcface": {}, "angular": {}}


def teacher(backbone: str, width: float = 1.0) -> TorchEmbedder:
    """Random weights: the values do not affect the time."""
    network = create(backbone, EMBEDDING, width=width)
    return TorchEmbedder(network, Preprocessing.ours(), module_digest(network))


def steps(
    store: Store,
    batch_size: int,
    losses: dict[str, dict[str, object]],
    cache: EmbeddingCache | None = None,
    online: TorchEmbedder | None = None,
) -> Iterator[float]:
    """CPU-seconds of consecutive training steps, including decoding."""
    torch.manual_seed(0)
    settings = TrainSettings(batch_size=batch_size, learning_rate=1e-3, decode_threads=1)
    weighted = WeightedLosses(parse_losses(losses, "losses"), EMBEDDING, IDENTITIES)
    learner = Learner(create("mobilefacenet", EMBEDDING), weighted, Preprocessing.ours())
    engine = create_engine(learner.train(), settings)
    plan, answers = create_plan(store, settings), cache and CachedAnswers(cache)
    with BatchLoader(store, Preprocessing.ours(), plan, answers, 1) as loader:
        began = time.process_time()
        for batch in loader.batches(0, 2**20):
            engine.step(batch if online is None else asked(online, batch), 1e-3)
            yield time.process_time() - began
            began = time.process_time()


def asked(online: TorchEmbedder, batch: Batch) -> Batch:
    """The batch with the teacher's embeddings of its images, mirrored like them."""
    return dataclasses.replace(batch, teacher=normalise(online.embed(batch.pixels)))


def main() -> None:
    """Measure alternately and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    batch_size = parser.parse_args().batch
    keep_freed_memory()
    work = Path(tempfile.mkdtemp())
    store = drawn_store(work, 8 * batch_size)
    cache = cache_embeddings(teacher("iresnet18", 0.125), store, work / "cache")
    turns = {
        "no teacher": (steps(store, batch_size, ARCFACE), STEPS),
        "cached": (steps(store, batch_size, BOTH, cache), STEPS),
        "online": (steps(store, batch_size, BOTH, online=teacher("iresnet100")), 1),
    }
    for step, _ in turns.values():
        next(step)  # the first step allocates
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(ROUNDS):
        for name, (step, count) in turns.items():
            best[name] = min(best[name], *itertools.islice(step, count))
    for name, figure in best.items():
        ratio = figure / best["no teacher"]
        sys.stdout.write(f"{name:12} {1000 * figure / batch_size:8.1f} ms/image  x{ratio:.3f}\n")
    online = best["online"] / best["cached"]
    sys.stdout.write(f"online is x{online:.2f} of cached (bars: cached 1.03, online 8)\n")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
