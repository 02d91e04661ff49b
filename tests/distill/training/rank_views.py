"""Augmented, mixed views and sharded class weights on ranks started by torchrun:
``rank_views.py STORE FOLDER``.

Run by test_views_ranks.py, which calls ``run`` for one rank directly.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from small_training import EMBEDDING, Plain, make_training, watch, weights

from curation.views import open_images
from distill.losses import WeightedLosses, parse_losses
from distill.training import distributed
from distill.training.augment import AugmentSettings
from distill.training.loop import Stopped, train

IDENTITIES, CUT = 41, 3
VIEWS = AugmentSettings(views=6, mix=0.3, plain=0.25, least_cosine=-1.0)
SHARDED = {"centres": {"sharded": True}}
SAMPLED = {"centres": {"sharded": True, "sample_rate": 0.3}}


class DrawnCache:
    """Random teacher embeddings, different for each image, mirror image and view."""

    embedding, digest = EMBEDDING, "drawn"

    def __init__(self, rows: int, seed: int) -> None:
        drawn = np.random.default_rng(seed).standard_normal((rows, 2, EMBEDDING))
        unit = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
        self.unit = unit.astype(np.float16)

    def vectors(self, rows: np.ndarray, answers: np.ndarray | slice | int) -> np.ndarray:
        return self.unit[rows, answers]


def run(store, folder: Path, stop_at: int | None = None, **settings) -> tuple[list, dict]:
    """Metrics and weights of a training of eight steps, interrupted at ``stop_at`` if given.

    Its centres are those of more identities than the images have.
    """
    common = {"epochs": 2, "learning_rate": 1e-3, "warmup": 0.0, **settings}
    training, metrics = make_training(store, **common), []
    torch.manual_seed(2)
    chosen = parse_losses({"arcface": {"scale": 16.0}, "angular": {"weight": 3.0}}, "losses")
    training = replace(
        training,
        network=Plain(),
        losses=WeightedLosses(chosen, EMBEDDING, IDENTITIES),
        cache=DrawnCache(len(store), 100),
        augment=VIEWS,
        view_caches=[DrawnCache(len(store), number) for number in range(VIEWS.augmented)],
    )
    try:
        train(training, folder, watch(metrics, lambda: len(metrics) == stop_at))
    except Stopped:
        assert stop_at is not None
    return metrics, {name: value.detach().clone() for name, value in weights(training).items()}


def main() -> None:
    store, folder = open_images(Path(sys.argv[1])), Path(sys.argv[2])
    found: dict[str, Any] = {}
    with distributed.process_group():
        found["sharded"] = run(store, folder / "sharded", **SHARDED)
        found["whole"] = run(store, folder / "whole", **SAMPLED)
        run(store, folder / "cut", CUT, **SAMPLED)
        found["resumed"] = run(store, folder / "cut", **SAMPLED)
        run(store, folder / "to one", CUT, **SHARDED)
        found["from one"] = run(store, folder / "from one", **SHARDED)
        rank = distributed.rank()
    torch.save(found, folder / f"found-{rank}.pt")


if __name__ == "__main__":
    main()
