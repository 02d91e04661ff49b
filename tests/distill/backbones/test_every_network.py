"""Properties of every registered network; a new one is tested once it is registered."""

import json
from functools import cache

import pytest
import torch
from torch import nn

from curation.errors import UserError
from distill.backbones import NETWORKS, create
from distill.catalogue import (
    CATALOGUE,
    LEAST_SIDE,
    STRIDE,
    USUAL_WIDTHS,
    backbone_files,
    catalogue,
    describe,
)
from distill.export.exporter import check_parity
from distill.export.formats.onnx import OnnxExporter
from distill.export.source import ExportSource
from distill.training.config import TrainSettings
from distill.training.trial import check_network
from teachers.folding import fold
from teachers.networks import head_parameters
from teachers.preprocessing import Preprocessing

NAMES = sorted(NETWORKS)
STUDENTS = [name for name in NAMES if not NETWORKS[name].family.startswith("iresnet")]
EXPORTED = ("vargfacenet",)
"""Export takes ten seconds per network; `just test-all` does it for every one."""
SMALL = {"input_size": (32, 32), "width": 0.125}
NOT_REPRODUCED = 0.02


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create(name, embedding=16, **SMALL)


def settled(network: nn.Module, size: tuple[int, int] = (32, 32)) -> nn.Module:
    """The network in evaluation, with the statistics of a few random images."""
    with torch.no_grad():
        network(torch.randn(4, 3, *size))
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())


@cache
def settled_small(name: str) -> nn.Module:
    """For read-only tests; building deep networks is most of their time."""
    return settled(small(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_embeddings_and_all_gradients(name):
    network = small(name)
    embeddings = network(torch.randn(2, 3, 32, 32))
    embeddings.square().sum().backward()
    assert embeddings.shape == (2, 16)
    idle = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


@pytest.mark.slow
@pytest.mark.parametrize("width", USUAL_WIDTHS)
@pytest.mark.parametrize("name", [row["name"] for row in catalogue()])
def test_the_catalogues_strides_and_widths_are_correct(name, width):
    with torch.device("meta"):
        network = create(name, input_size=(LEAST_SIDE, LEAST_SIDE + STRIDE), width=width)
        assert (
            check_network(
                network, (LEAST_SIDE, LEAST_SIDE + STRIDE), TrainSettings(batch_size=4), 1
            )
            == []
        )


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_it_is_a_function_of_the_image_alone(name):
    network = settled_small(name)
    images = torch.randn(2, 3, 32, 32)
    together = network(images)
    assert torch.equal(together, network(images))
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.cosine_similarity(alone, together).min() > 1 - 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_state_dict_can_be_saved_and_loaded(name):
    first, second = settled_small(name), small(name).eval()
    second.load_state_dict(first.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))


@pytest.mark.parametrize("name", NAMES)
def test_folded_it_gives_the_same_embeddings(name):
    network = settled_small(name)
    folded = fold(network)
    images = torch.randn(2, 3, 32, 32)
    ours, theirs = (nn.functional.normalize(f(images)) for f in (folded, network))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert norms(folded) < norms(network) or norms(network) == 0


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_a_size_that_its_strides_do_not_divide(name):
    with torch.device("meta"), pytest.raises(UserError, match=r"50x50 is not a multiple"):
        create(name, input_size=(50, 50))


@pytest.mark.parametrize("name", NAMES)
def test_the_part_after_the_global_operator_is_not_all(name):
    with torch.device("meta"):
        network = create(name)
    head, everything = set(head_parameters(network)), set(network.parameters())
    assert head < everything


@pytest.mark.parametrize("name", NAMES)
def test_the_printed_figures_are_reproduced_or_marked(name):
    paper, published = describe(name)["paper"], NETWORKS[name].paper
    if published is None:
        return
    assert published.source
    assert set(published.figures) <= {"params", "madds", "lfr_flops", "size_mib"}
    for quantity, figure in published.figures.items():
        difference = abs(paper["figures"][quantity]["difference"])
        if figure.within is None:
            assert difference > NOT_REPRODUCED, f"{quantity} does agree: say within how much"
        else:
            assert difference <= figure.within, f"{quantity} {figure.printed}: {difference:.1%} off"


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_describes_its_counts(name):
    (row,) = (row for row in catalogue() if row["name"] == name)
    assert row == describe(name), "run `just backbones-page`"


def test_the_catalogue_is_made_from_the_existing_files():
    made_from = json.loads(CATALOGUE.read_text())["files"]
    assert made_from == backbone_files(), "run `just backbones-page`"


@pytest.mark.parametrize("name", EXPORTED)
def test_it_exports_to_onnx(name, tmp_path):
    export(settled_small(name), (32, 32), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network_exports_to_onnx_at_its_own_size(name, tmp_path):
    torch.manual_seed(0)
    size = NETWORKS[name].input_size
    export(settled(create(name), size), size, tmp_path)


def export(network, size, folder):
    exporter = OnnxExporter()
    source = ExportSource(network.eval(), Preprocessing.ours(size))
    exporter.export(folder, source)
    check_parity("onnx", exporter.run(folder), source)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_it_trains_at_its_own_size(name):
    torch.manual_seed(0)
    network = create(name)
    embeddings = network(torch.randn(2, 3, *NETWORKS[name].input_size))
    embeddings.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
