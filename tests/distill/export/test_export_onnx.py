"""The ONNX file is folded, takes any batch, equals torch, and is reproducible."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from curation.errors import UserError
from distill.backbones import create
from distill.export.exporter import check_parity
from distill.export.formats.onnx import OnnxExporter
from distill.export.golden import lowest_cosine
from distill.export.source import ExportSource
from teachers.preprocessing import Preprocessing

NORMALISATION = "BatchNormalization"


@pytest.fixture(scope="module")
def iresnet(lived_in: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return lived_in(create("iresnet18", embedding=16, input_size=(32, 32), width=0.125))


@pytest.fixture(scope="module")
def iresnet_file(iresnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(iresnet, (32, 32), tmp_path_factory.mktemp("onnx"))


def exported(network: nn.Module, size: tuple[int, int], folder: Path) -> Path:
    OnnxExporter().export(folder, ExportSource(network.eval(), Preprocessing.ours(size)))
    return folder / "model.onnx"


def foldable(model: onnx.ModelProto) -> list[str]:
    """Batch normalisations whose input is a convolution or product with no other reader."""
    producers = {name: node for node in model.graph.node for name in node.output}
    readers = [name for node in model.graph.node for name in node.input]
    return [
        node.name
        for node in model.graph.node
        if node.op_type == NORMALISATION
        and (source := producers.get(node.input[0])) is not None
        and source.op_type in ("Conv", "Gemm", "MatMul")
        and readers.count(node.input[0]) == 1
    ]


def count_of(model: onnx.ModelProto, kind: str) -> int:
    return sum(node.op_type == kind for node in model.graph.node)


def test_every_normalisation_of_a_mobilefacenet_is_folded(small_bundle: Path):
    model = onnx.load(small_bundle / "model.onnx")
    assert count_of(model, "Conv") == 50
    assert count_of(model, NORMALISATION) == 0


def test_an_iresnet_keeps_those_that_padding_prevents_folding(iresnet_file: Path):
    model = onnx.load(iresnet_file)
    assert foldable(model) == []
    # The first of each of the eight blocks, and the one before the fully connected layer.
    assert count_of(model, NORMALISATION) == 9


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_embeddings_equal_torchs_within_1e_5_at_any_batch_size(
    iresnet: nn.Module, iresnet_file: Path, batch: int
):
    images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(iresnet_file, providers=["CPUExecutionProvider"])
    (found,) = session.run(["embedding"], {"image": images.numpy()})
    with torch.inference_mode():
        expected = iresnet(images).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_file_is_pinned_and_has_no_trace_of_the_machine(iresnet_file: Path):
    model = onnx.load(iresnet_file)
    assert [opset.version for opset in model.opset_import] == [20]
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["embedding"]
    content = iresnet_file.read_bytes()
    assert str(Path(__file__).parents[3]).encode() not in content
    assert b"site-packages" not in content


def test_a_second_export_gives_the_same_bytes(tmp_path: Path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten())
    first = exported(network, (4, 4), tmp_path).read_bytes()
    assert exported(network, (4, 4), tmp_path).read_bytes() == first


def test_a_file_of_another_network_fails_the_parity_check(iresnet_file: Path):
    torch.manual_seed(1)
    other = create("iresnet18", embedding=16, input_size=(32, 32), width=0.125).eval()
    source = ExportSource(other, Preprocessing.ours((32, 32)))
    with pytest.raises(UserError, match="different embeddings from the network: cosine"):
        check_parity("onnx", OnnxExporter().run(iresnet_file.parent), source)


@pytest.mark.parametrize(
    ("left", "right", "cosine"),
    [
        ([[1, 0], [0, 2]], [[3, 0], [0, 1]], 1.0),
        ([[1, 0], [0, 2]], [[1, 0], [1, 1]], 0.5**0.5),
        ([[1, 0]], [[-1, 0]], -1.0),
        ([[0, 0]], [[1, 0]], 0.0),
        ([[1, 0]], [[1, 0, 0]], -1.0),
    ],
)
def test_the_lowest_cosine_by_hand(left: list, right: list, cosine: float):
    assert lowest_cosine(np.array(left), np.array(right)) == pytest.approx(cosine)
