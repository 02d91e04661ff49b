"""Torch networks as embedders, and the digest that identifies their weights."""

import numpy as np
import pytest
import torch
from torch import nn

from teachers.embedder import TorchEmbedder, module_digest
from teachers.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(colour="BGR", mean=100.0, std=50.0, size=(4, 6))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(32, 5)
    )


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)


def test_embeddings_are_the_modules_in_evaluation_mode():
    module = network().train()
    embedder = TorchEmbedder(module, PREPROCESSING, "digest", device="cpu")
    module.train()  # as between two epochs

    found = embedder.embed(images(3))

    pixels = (images(3)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) - 100) / 50
    with torch.no_grad():
        expected = network().eval()(torch.from_numpy(pixels.copy())).numpy()
    assert (embedder.embedding, embedder.digest) == (5, "digest")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equal_weights_have_one_digest():
    assert module_digest(network()) == module_digest(network())
    assert len(module_digest(network())) == 64


def change_weight(module: nn.Module) -> None:
    with torch.no_grad():
        module[4].weight[0, 0] += 1e-6


def change_statistic(module: nn.Module) -> None:
    module[1].running_mean[0] = 1


def change_shape(module: nn.Module) -> None:
    module[0].weight = nn.Parameter(module[0].weight.reshape(4, 27))


def change_type(module: nn.Module) -> None:
    module.double()


def change_name(module: nn.Module) -> None:
    module._modules["last"] = module._modules.pop("4")


@pytest.mark.parametrize(
    "change", [change_weight, change_statistic, change_shape, change_type, change_name]
)
def test_any_change_of_the_state_changes_the_digest(change):
    changed = network()
    change(changed)
    assert module_digest(changed) != module_digest(network())


def test_memory_layout_does_not_change_the_digest():
    other = network().to(memory_format=torch.channels_last)
    assert module_digest(other) == module_digest(network())
