"""Sharded class weights on ranks started by torchrun: ``rank_partial_fc.py STORE FOLDER``.

Run by test_partial_fc_ranks.py, which calls ``measure`` and ``run`` for one rank directly.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from small_training import EMBEDDING, PREPROCESSING, Plain, make_training, watch, weights

from curation.views import open_images
from distill.losses import LOSSES, WeightedLosses, parse_losses
from distill.losses.head import MarginHead
from distill.training import distributed
from distill.training.config import TrainSettings
from distill.training.data import Batch
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.loop import Stopped, train

IMAGES, IDENTITIES, CUT = 12, 41, 1
HEADS = [name for name, entry in LOSSES.items() if issubclass(entry.loss, MarginHead)]
SHARDED = {"centres": {"sharded": True}}
SAMPLED = {"centres": {"sharded": True, "sample_rate": 0.3}}
CASES: dict[str, tuple[dict, dict]] = {
    **{name: ({name: {"scale": 16.0}}, {}) for name in HEADS},
    "class balance": ({"arcface": {"scale": 16.0, "class_balance": 0.9}}, {}),
    "filtered": ({"arcface": {"scale": 16.0, "filter_above": 0.1}}, {}),
    "two heads": ({"subcentre": {"scale": 16.0}, "sv": {"scale": 8.0, "weight": 2.0}}, {}),
    "beside others": ({"arcface": {}, "angular": {"project": True}, "center": {}}, {}),
    "accumulated": ({"arcface": {"scale": 16.0}}, {"accumulate": 3}),
    "clipped": ({"arcface": {}}, {"clip_gradient_norm": 0.5}),
}
"""Losses and settings by name"""


def global_batch() -> Batch:
    """Random images; some identities occur twice, and the first and the last are among them."""
    random = torch.Generator().manual_seed(3)
    return Batch(
        torch.randint(0, 256, (IMAGES, 32, 32, 3), generator=random, dtype=torch.uint8).numpy(),
        torch.tensor([0, 40, 20, 19, 21, 7, 7, 33, 40, 12, 0, 28]).numpy(),
        torch.randn(IMAGES, 8, generator=random).numpy(),
        np.arange(IMAGES),
    )


def share_of(batch: Batch) -> Batch:
    each = IMAGES // distributed.world_size()
    own = slice(distributed.rank() * each, (distributed.rank() + 1) * each)
    return Batch(batch.pixels[own], batch.labels[own], batch.teacher[own], batch.indices[own])


def measure(losses: dict, **settings: Any) -> dict[str, Any]:
    """Two steps without weight decay: the first momentum is the gradient; complete on rank 0."""
    torch.manual_seed(5)
    counts = torch.arange(1, IDENTITIES + 1)
    parts = WeightedLosses(parse_losses(losses, "losses"), EMBEDDING, IDENTITIES, counts, 8)
    given = {"batch_size": IMAGES, "weight_decay": 0.0, **settings}
    learner = Learner(Plain(), parts, PREPROCESSING).train()
    engine = create_engine(learner, TrainSettings(**given))
    distributed.seed_step(0, 0)
    report = engine.step(share_of(global_batch()), 1e-3)
    found = {
        "losses": distributed.mean_over_ranks(report.losses),
        "norm": float(report.gradient_norm),
        "gradients": clone(engine.state()["optimiser"].get("momentum_buffer", {})),
        "identities": None if parts.sampled is None else parts.sampled.identities.clone(),
    }
    engine.step(share_of(global_batch()), 1e-3)
    engine.finish()
    return {**found, "weights": clone(learner.state_dict())}


def clone(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def run(store, folder: Path, stop_at: int | None = None, **settings) -> tuple[list, dict]:
    """Metrics and weights of a training of four steps, interrupted at ``stop_at`` if given.

    Its centres are those of more identities than the images have.
    """
    common = {"epochs": 1, "learning_rate": 1e-3, "warmup": 0.0, **settings}
    training, metrics = make_training(store, **common), []
    torch.manual_seed(2)
    chosen = parse_losses({"arcface": {"scale": 16.0}}, "losses")
    losses = WeightedLosses(chosen, EMBEDDING, IDENTITIES)
    training = replace(training, network=Plain(), losses=losses)
    try:
        train(training, folder, watch(metrics, lambda: len(metrics) == stop_at))
    except Stopped:
        assert stop_at is not None
    return metrics, clone(weights(training))


def main() -> None:
    store, folder = open_images(Path(sys.argv[1])), Path(sys.argv[2])
    with distributed.process_group():
        found: dict[str, Any] = {
            name: measure(losses, **settings, **SHARDED)
            for name, (losses, settings) in CASES.items()
        }
        found["sampled"] = measure({"arcface": {"scale": 16.0}}, **SAMPLED)
        not_sharded = {"centres": {"sample_rate": 0.3}}
        found["sampled alike"] = measure({"arcface": {"scale": 16.0}}, **not_sharded)
        found["whole"] = run(store, folder / "whole", **SAMPLED)
        run(store, folder / "cut", CUT, **SAMPLED)
        found["resumed"] = run(store, folder / "cut", **SAMPLED)
        run(store, folder / "to one", CUT, **SHARDED)
        rank = distributed.rank()
    torch.save(found, folder / f"found-{rank}.pt")


if __name__ == "__main__":
    main()
