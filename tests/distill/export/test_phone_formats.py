"""Each format gives the network's embeddings; one that is not installed gives a clear error."""

from pathlib import Path

import pytest
import torch
from timm.models.edgenext import SplitTransposeBlock
from torch import nn

from curation.errors import UserError
from distill.backbones.ghostfacenet import DecoupledAttention
from distill.export.exporter import exporters, write_format
from distill.export.formats.coreml import check_weights
from distill.export.golden import write_golden
from distill.export.rewriting import ChunkedAttention, GateByParts, SplitByWidths, for_converters
from distill.export.source import ExportSource
from teachers.embedder import TorchEmbedder

NOT_ONNX = [
    name
    for name, each in exporters().items()
    if name not in ("onnx", "inspireface") and not each.calibrated
]
"""int8 needs faces and InspireFace needs 512 dimensions: both have separate tests."""


@pytest.fixture(scope="module")
def source(small_network, small_config) -> ExportSource:
    return ExportSource(small_network, small_config.face.preprocessing)


@pytest.fixture
def folder(source, tmp_path) -> Path:
    embedder = TorchEmbedder(source.network, source.preprocessing, "", device="cpu")
    write_golden(tmp_path, embedder, source.size)
    return tmp_path


def installed(name: str) -> bool:
    found = exporters()[name]
    return found.lacks((*found.writes_with, *found.runs_with)) is None


@pytest.mark.parametrize("name", NOT_ONNX)
def test_a_format_gives_the_embeddings_of_the_network(name, source, folder):
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    files = write_format(name, folder, source)
    assert files
    assert all((folder / each).stat().st_size for each in files)


@pytest.mark.parametrize("name", [name for name in NOT_ONNX if exporters()[name].extra])
def test_a_format_that_is_not_installed_says_what_to_install(name, source, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(UserError, match=rf"{name} format .*pip install 'face-distill\[\w+\]'"):
        write_format(name, folder, source)


@pytest.mark.parametrize("damage", [b"", b"7767517\n1 1\n", b"no graph", b"\0" * 4096])
def test_damaged_files_give_a_one_line_error(damage, source, folder):
    if not installed("ncnn"):
        pytest.skip("ncnn is not installed")
    write_format("ncnn", folder, source)
    (folder / "model.ncnn.param").write_bytes(damage)
    with pytest.raises(UserError, match="ncnn"):
        exporters()["ncnn"].embedder(folder, source.preprocessing)


def test_a_crashing_library_ends_only_its_own_process(source, folder, monkeypatch):
    if not installed("ncnn"):
        pytest.skip("ncnn is not installed")
    write_format("ncnn", folder, source)
    graph = folder / "model.ncnn.param"
    graph.write_text(graph.read_text().replace("0=", "0=99999", 3))
    with pytest.raises(UserError):
        exporters()["ncnn"].embedder(folder, source.preprocessing)


@pytest.mark.parametrize("convolutions", [1, 2, 3])
def test_attention_of_edgeface_is_rewritten_without_loss(convolutions):
    torch.manual_seed(0)
    block = SplitTransposeBlock(20, num_scales=convolutions + 1, num_heads=4).eval()
    network = nn.Sequential(block, nn.Flatten())
    pixels = torch.randn(2, 20, 6, 6)
    written = for_converters(network)
    kinds = [type(layer) for layer in written.modules()]
    assert kinds.count(ChunkedAttention) == kinds.count(SplitByWidths) == 1
    torch.testing.assert_close(written(pixels), network(pixels))


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (8, 7), (2, 3), (9, 14)], ids=str)
def test_the_gate_of_ghostfacenet_is_rewritten_without_loss(size: tuple[int, int]):
    torch.manual_seed(0)
    network = nn.Sequential(DecoupledAttention(4, 6).eval())
    written, pixels = for_converters(network), torch.randn(2, 4, *size)
    assert isinstance(written[0], GateByParts)
    torch.testing.assert_close(written(pixels), network(pixels))


def test_a_network_that_converters_support_is_not_copied(small_network):
    assert for_converters(small_network) is small_network


@pytest.mark.parametrize("name", ["torch-export"])
def test_a_format_that_can_contain_code_is_not_run_from_a_bundle(name, folder, source):
    write_format(name, folder, source)
    with pytest.raises(UserError, match="can run code"):
        exporters()[name].embedder(folder, source.preprocessing)


def test_core_ml_weights_that_differ_are_named(source):
    state = source.folded.state_dict()
    weights = {key: each.numpy() for key, each in state.items() if each.is_floating_point()}
    check_weights(source, [each.reshape(-1) for each in weights.values()])
    changed = {**weights, "embedding.0.bias": weights["embedding.0.bias"] * 1.000001 + 1e-6}
    with pytest.raises(UserError, match=r"other weights than the network: embedding\.0\.bias"):
        check_weights(source, list(changed.values()))


def test_core_ml_gives_the_same_bytes_and_is_not_run(source, folder, tmp_path_factory):
    if not installed("coreml"):
        pytest.skip("coreml is not installed")
    files = write_format("coreml", folder, source)
    again = tmp_path_factory.mktemp("again")
    exporters()["coreml"].export(again, source)
    assert [(folder / each).read_bytes() for each in files] == [
        (again / each).read_bytes() for each in files
    ]
    with pytest.raises(UserError, match="not run on this system"):
        exporters()["coreml"].embedder(folder, source.preprocessing)
