"""Checks that need a GPU: it computes what the CPU computes, in every network, loss and engine.

Run by `just test-gpu`; all other tests hide the GPUs of their machine.
"""

from copy import deepcopy

import numpy as np
import pytest
import torch
from small_training import EMBEDDING, PREPROCESSING, make_network, make_training, watch
from torch import nn

from distill.backbones import create
from distill.evaluation.all_pairs import all_pairs
from distill.losses import LOSSES, LossInputs, WeightedLosses, parse_losses
from distill.training.loop import Stopped, train
from teachers.embedder import TorchEmbedder
from teachers.networks import NETWORKS
from tests.distill.losses.test_losses import inputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or it is hidden"),
]
GENTLE = {"learning_rate": 1e-5, "final_learning_rate": 1e-5, "warmup": 0.0}
"""In these tiny trainings, larger steps make a rounding error grow from step to step."""
NOT_RANDOM = {"triplet": {"mining": "batch-hard"}}
"""Random choices differ on the GPU."""


@pytest.fixture(autouse=True)
def exact():
    """float32 products in float32 instead of TF32, so that the two sides can be compared."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def gradients(losses, given):
    """The total loss, and its gradients to the embeddings and to the losses' own parameters."""
    total = losses(given)["total"]
    variables = [given.embeddings, *losses.parameters()]
    found = torch.autograd.grad(total, variables, allow_unused=True)
    return [total, *(each for each in found if each is not None)]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_and_its_gradients_are_those_of_the_cpu(name):
    given = inputs(batch=12, dimensions=8, identities=4)
    chosen = parse_losses({name: NOT_RANDOM.get(name, {})}, "losses")
    torch.manual_seed(0)
    losses = WeightedLosses(chosen, 8, 4, given.identity_counts)
    losses.teacher_centres = given.teacher_centres
    found = []
    for device in ("cpu", "cuda"):
        embeddings = given.embeddings.to(device).requires_grad_()
        moved = LossInputs(embeddings, given.labels.to(device), given.teacher.to(device))
        found.append([each.cpu() for each in gradients(deepcopy(losses).to(device), moved)])
    for there, here in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_embeds_as_on_the_cpu(name):
    torch.manual_seed(0)
    network, images = create(name, 32, (112, 112)), torch.randn(4, 3, 112, 112)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0  # this batch's statistics: without any, deep networks overflow
    with torch.no_grad():
        network(images)
        network.eval()
        expected = network(images)
        found = network.cuda()(images.cuda()).cpu()
    assert (found - expected).norm() < 0.01 * expected.norm()


def losses_of_an_epoch(store, folder, **settings):
    metrics = []
    train(make_training(store, epochs=1, **GENTLE, **settings), folder, watch(metrics))
    return [line["loss_total"] for line in metrics]


def test_it_trains_as_the_cpu_does(drawn_store, tmp_path, monkeypatch):
    found = losses_of_an_epoch(drawn_store, tmp_path / "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert found == pytest.approx(losses_of_an_epoch(drawn_store, tmp_path / "cpu"), rel=1e-2)


def test_both_engines_train_alike(drawn_store, tmp_path):
    torch_losses, deepspeed_losses = (
        losses_of_an_epoch(drawn_store, tmp_path / engine, engine=engine)
        for engine in ("torch", "deepspeed")
    )
    assert torch_losses == pytest.approx(deepspeed_losses, rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns(drawn_store, tmp_path, precision):
    metrics = []
    train(make_training(drawn_store, epochs=12, precision=precision), tmp_path, watch(metrics))
    assert metrics[-1]["loss_arcface"] < 0.6 * metrics[0]["loss_arcface"]


def test_partial_fc_learns(drawn_store, tmp_path):
    metrics = []
    centres = {"sample_rate": 0.5}
    train(make_training(drawn_store, epochs=12, centres=centres), tmp_path, watch(metrics))
    assert metrics[-1]["loss_arcface"] < 0.8 * metrics[0]["loss_arcface"]


def learned(training):
    parameters = [*training.network.parameters(), *training.losses.parameters()]
    return torch.cat([each.detach().cpu().flatten() for each in parameters])


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_stopped_and_resumed_it_ends_where_it_would_have(drawn_store, tmp_path, engine):
    """Approximately: sums on a GPU have no fixed order. Without momentum it would be 40 % off."""
    whole, first, second = (
        make_training(drawn_store, epochs=2, engine=engine, **GENTLE) for _ in range(3)
    )
    before = learned(whole)
    train(whole, tmp_path / "whole", watch())
    steps = []
    with pytest.raises(Stopped):
        train(first, tmp_path / "cut", watch(steps, lambda: len(steps) == 3))
    train(second, tmp_path / "cut", watch(steps))
    assert [line["iteration"] for line in steps] == list(range(1, 9))
    moved = (learned(whole) - before).norm()
    assert (learned(second) - learned(whole)).norm() < 0.05 * moved


def test_a_teacher_embeds_as_on_the_cpu():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    gpu, cpu = (
        TorchEmbedder(make_network(), PREPROCESSING, "a", device) for device in ("cuda", "cpu")
    )
    assert gpu.embedding == EMBEDDING
    np.testing.assert_allclose(gpu.embed(pixels), cpu.embed(pixels), rtol=1e-3, atol=1e-4)


def test_all_pairs_are_counted_as_on_the_cpu(monkeypatch):
    random = np.random.default_rng(0)
    labels = np.arange(600) // 4
    features = (random.normal(size=(150, 32))[labels] + random.normal(size=(600, 32))).astype("f4")
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    found = all_pairs(features, labels)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = all_pairs(features, labels)
    assert found["impostors"] == expected["impostors"]
    for far, rate in expected["tar_at_far"].items():
        assert found["tar_at_far"][far]["tar"] == pytest.approx(rate["tar"], abs=2e-3)
