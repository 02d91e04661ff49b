"""Trainings on two sets, one of them without labels, on torchrun's ranks; run by
test_several_sets.py.

``torchrun --nproc-per-node 2 rank_several_sets.py FIRST SECOND CACHE FOLDER``
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rank_trainings import COMMON
from small_training import make_training, watch

from curation.views import open_images
from distill.backbones import create
from distill.training import distributed
from distill.training.config import SamplerSettings
from distill.training.loop import train
from distill.training.plan import SHUFFLE
from distill.training.several_sets import TrainedSet, as_one
from teachers.embedder import TorchEmbedder, module_digest
from teachers.embeddings import cache_embeddings
from teachers.preprocessing import Preprocessing

LOSSES = {"arcface": {"scale": 16.0, "margin": 0.2}, "angular": {"weight": 2.0}}
PK = SamplerSettings(kind="pk", images=4)
TRAININGS = {
    "shuffled": (SHUFFLE, {}),
    "whole identities": (PK, {}),
    "sharded": (SHUFFLE, {"centres": {"sharded": True}}),
}


def teacher_of(size):
    torch.manual_seed(0)
    network = create("mobilefacenet", 16, size, 0.125)
    return TorchEmbedder(network, Preprocessing.ours(size), module_digest(network))


def run(images, cache, folder: Path, sampler, **settings) -> list:
    """The metrics of one training."""
    given = {**COMMON, "batch_size": 16, "epochs": 2, **settings}
    training = make_training(images, cache, losses=LOSSES, **given)
    metrics: list = []
    train(replace(training, sampler=sampler), folder, watch(metrics))
    return metrics


def run_all(first: Path, second: Path, cache_root: Path, folder: Path) -> dict[str, list]:
    """The metrics of every training."""
    sets = [
        TrainedSet(open_images(first), 0.6),
        TrainedSet(open_images(second), 0.4, labels=False),
    ]
    images = as_one(sets)
    cache = cache_embeddings(teacher_of((48, 48)), images, cache_root)
    return {
        name: run(images, cache, folder / name, sampler, **settings)
        for name, (sampler, settings) in TRAININGS.items()
    }


if __name__ == "__main__":
    with distributed.process_group():
        found = run_all(*map(Path, sys.argv[1:]))
        if distributed.rank() == 0:
            (Path(sys.argv[-1]) / "metrics.json").write_text(json.dumps(found))
