"""Trainings with PK batches and mined triplets on torchrun's ranks; run by test_pk.py.

``torchrun --nproc-per-node 2 rank_pk_trainings.py STORE FOLDER``
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rank_trainings import COMMON, ENGINES
from small_training import make_training, watch

from curation.views import open_images
from distill.training import distributed
from distill.training.config import SamplerSettings
from distill.training.loop import train

LOSSES = {
    "arcface": {"scale": 16.0, "margin": 0.2},
    "triplet": {"margin": 0.5},
    "centre_triplet": {"margin": 0.5},
}


def run(store, folder: Path, **settings) -> list:
    """The metrics of one training."""
    training = make_training(store, losses=LOSSES, **{**COMMON, "batch_size": 16, **settings})
    metrics: list = []
    sampler = SamplerSettings(kind="pk", images=4)
    train(replace(training, sampler=sampler), folder, watch(metrics))
    return metrics


if __name__ == "__main__":
    store, folder = open_images(Path(sys.argv[1])), Path(sys.argv[2])
    with distributed.process_group():
        found = {name: run(store, folder / name, **given) for name, given in ENGINES.items()}
        if distributed.rank() == 0:
            (folder / "metrics.json").write_text(json.dumps(found))
