"""`onnx-feature`: one graph from the bytes of an aligned face to its feature."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import distill
from curation.errors import UserError
from distill.export.bundle import export_bundle
from distill.export.checksums import write_sums
from distill.export.config import FaceConfig
from distill.export.embedder import BundleEmbedder
from distill.export.exporter import exporters
from distill.export.formats.onnx_feature import OnnxFeatureExporter, feature_graph
from distill.export.golden import GOLDEN_NAME, write_golden
from distill.export.more_formats import add_formats
from distill.export.safe_tensors import read_arrays, write_arrays
from distill.export.source import ExportSource
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing

FORMAT = "onnx-feature"


@pytest.fixture(scope="module", params=["sum", "none"])
def bundle(request, small_network, small_config, small_evaluation, tmp_path_factory) -> Path:
    """A bundle with a BGR network, so that the order of the channels matters."""
    face = FaceConfig(preprocessing=small_config.face.preprocessing, mirror=request.param)
    config = small_config.model_copy(update={"face": face})
    destination = tmp_path_factory.mktemp("bundles") / request.param
    formats = ("onnx", FORMAT)
    return export_bundle(destination, small_network, config, small_evaluation, {}, formats=formats)


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (11, 32, 32, 3), np.uint8)


def test_it_gives_the_same_features_as_the_package(bundle, faces):
    expected = distill.load(bundle).embed(faces)
    model = OnnxFeatureExporter().run(bundle)
    np.testing.assert_allclose(model(faces), expected, atol=2e-6)
    assert model(faces[:1]).shape == (1, 16)


def test_as_a_runtime_it_gives_the_same_features_and_scores(bundle, faces):
    embedder = BundleEmbedder(bundle, FORMAT)
    np.testing.assert_allclose(embedder.embed(faces), distill.load(bundle).embed(faces), atol=2e-6)
    assert embedder.check_golden() > 0.99999


def test_its_metadata_state_its_own_contract(bundle):
    def said_by(name: str) -> dict[str, str]:
        model = onnx.load(bundle / name)
        return {each.key: each.value for each in model.metadata_props}

    plain, whole = said_by("model.onnx"), said_by("model.feature.onnx")
    assert plain["colour"] == "BGR"
    assert whole["colour"] == "RGB"
    assert "uint8 [N, 32, 32, 3]" in whole["input"]
    assert "unit length" in whole["output"]
    assert {key for key in plain if plain[key] != whole[key]} == set(
        OnnxFeatureExporter().contract(distill.load(bundle).config)
    )


def test_an_older_bundle_gets_golden_features(tmp_path, small_bundle):
    older = tmp_path / "older"
    shutil.copytree(small_bundle, older)
    arrays = read_arrays(older / GOLDEN_NAME)
    write_arrays(older / GOLDEN_NAME, {key: arrays[key] for key in ("images", "embeddings")})
    (older / "SHA256SUMS").unlink()
    write_sums(older)
    add_formats(older, [FORMAT])
    assert BundleEmbedder(older, FORMAT).check_golden() > 0.99999


@pytest.mark.parametrize("wrong", ["colour", "mean", "mirror"])
def test_a_graph_with_another_preprocessing_is_refused(wrong, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    ours = Preprocessing.ours((8, 8))
    source = ExportSource(network, ours, mirror="sum")
    write_golden(tmp_path, TorchEmbedder(network, ours, "", device="cpu"), (8, 8))
    given = {
        "colour": (ours.model_copy(update={"colour": "BGR"}), "sum"),
        "mean": (ours.model_copy(update={"mean": 90.0}), "sum"),
        "mirror": (ours, "none"),
    }[wrong]
    graph = feature_graph(source.onnx, *given)
    (tmp_path / "model.feature.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match="gives different embeddings from the network: cosine"):
        exporters()[FORMAT].check(tmp_path, tmp_path, source)
