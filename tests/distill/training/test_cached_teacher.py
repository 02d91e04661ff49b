"""Training on the cache equals running the teacher at every step, for one teacher or several."""

import numpy as np
import pytest
import torch

from distill.backbones import create
from distill.losses import WeightedLosses, parse_losses
from distill.training.answers import CachedAnswers
from distill.training.data import BatchLoader
from distill.training.learner import Learner, to_device
from distill.training.shuffles import FullShuffle
from teachers.embedder import Embedder, TorchEmbedder, module_digest, normalise
from teachers.embeddings import cache_embeddings
from teachers.ensemble import COMBINATIONS, Ensemble
from teachers.preprocessing import Preprocessing

PICTURES = Preprocessing.ours((48, 48))
"""The size of the drawn store: the loader changes no pixels, so a teacher can embed its output."""


def teacher_of(seed, preprocessing):
    torch.manual_seed(seed)
    network = create("mobilefacenet", 16, preprocessing.size, 0.125)
    return TorchEmbedder(network, preprocessing, module_digest(network))


@pytest.fixture(params=["one", *COMBINATIONS])
def teacher(request) -> Embedder:
    """A teacher with an input of 32x32 pixels, alone or with another with a different input."""
    first = teacher_of(0, Preprocessing.ours((32, 32)))
    if request.param == "one":
        return first
    second = teacher_of(1, Preprocessing(colour="BGR", mean=100.0, std=128.0, size=(48, 48)))
    return Ensemble([first, second], request.param)


def losses_and_gradient(learner, batch, said):
    pixels, labels, *_ = to_device(batch, torch.device("cpu"))
    learner.zero_grad()
    losses = learner(pixels, labels, said)
    losses["total"].backward()
    gradient = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    return losses, torch.cat(gradient)


def test_steps_on_the_cache_are_those_with_the_teacher_at_hand(drawn_store, teacher, tmp_path):
    """For upright and mirrored images alike; the only difference is the rounding to float16."""
    cache = cache_embeddings(teacher, drawn_store, tmp_path)
    plan = FullShuffle(len(drawn_store), 16, seed=3)
    learner = Learner(
        create("mobilefacenet", teacher.embedding, (48, 48), 0.125).eval(),
        WeightedLosses(
            parse_losses({"arcface": {}, "angular": {}}, "losses"),
            teacher.embedding,
            drawn_store.identities,
        ),
        PICTURES,
    )
    with BatchLoader(drawn_store, PICTURES, plan, CachedAnswers(cache)) as loader:
        batches = list(loader.batches(0, plan.steps_per_epoch))
    for batch, mirrored in zip(batches, np.split(plan.epoch(0)[1], 3), strict=True):
        assert 0 < mirrored.sum() < 16
        at_hand = torch.from_numpy(normalise(teacher.embed(batch.pixels)))
        cached = to_device(batch, torch.device("cpu"))[2]
        online, wanted = losses_and_gradient(learner, batch, at_hand)
        offline, found = losses_and_gradient(learner, batch, cached)
        assert offline["angular"].item() == pytest.approx(online["angular"].item(), rel=1e-4)
        assert offline["total"].item() == pytest.approx(online["total"].item(), rel=1e-5)
        assert torch.linalg.vector_norm(found - wanted) < 1e-3 * torch.linalg.vector_norm(wanted)
