"""Trainings on ranks started by torchrun, one after the other in one process group.

Run by test_ranks.py: ``torchrun --nproc-per-node 2 rank_trainings.py STORE FOLDER``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from small_training import make_training, watch, weights

from curation.views import open_images
from distill.training import distributed
from distill.training.loop import Stopped, train

ENGINES = {
    "torch": {},
    "zero 0": {"engine": "deepspeed"},
    "zero 2": {"engine": "deepspeed", "zero_stage": 2},
}
# At higher rates a network this small is chaotic: rounding errors grow without bound.
COMMON = {"epochs": 1, "learning_rate": 2e-5, "warmup": 0.0, "clip_gradient_norm": 50.0}
ADAMW = {"optimiser": "adamw", "ema": 0.9}
CUT = 1


def run(store, folder: Path, stop_at: int | None = None, **settings) -> tuple[list, dict]:
    """The metrics and the weights of one training, interrupted at about ``stop_at`` if given."""
    training, metrics = make_training(store, **{**COMMON, **settings}), []
    try:
        train(training, folder, watch(metrics, lambda: len(metrics) == stop_at))
    except Stopped:
        assert stop_at is not None
    return metrics, weights(training)


def main() -> None:
    store, folder = open_images(Path(sys.argv[1])), Path(sys.argv[2])
    found = {}
    with distributed.process_group():
        for name, engine in ENGINES.items():
            found[name] = run(store, folder / name, **engine)
        for name in ("torch", "zero 2"):
            run(store, folder / f"{name} cut", CUT, **ENGINES[name])
            found[f"{name} resumed"] = run(store, folder / f"{name} cut", **ENGINES[name])
        run(store, folder / "to one", CUT, engine="deepspeed", zero_stage=1)
        found["from one"] = run(store, folder / "from one", **ENGINES["zero 2"])
        sharded = {**ADAMW, **ENGINES["zero 2"]}
        found["adamw"] = run(store, folder / "adamw", **sharded)
        run(store, folder / "adamw cut", CUT, **sharded)
        found["adamw resumed"] = run(store, folder / "adamw cut", **sharded)
        run(store, folder / "adamw to one", CUT, **sharded)
        rank = distributed.rank()
    torch.save(found, folder / f"found-{rank}.pt")


if __name__ == "__main__":
    main()
