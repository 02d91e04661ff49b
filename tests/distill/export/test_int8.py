"""int8 is delivered if its measured losses pass the gate, or else refused with the numbers."""

import copy
import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.store import Store
from distill.cli.main import app
from distill.evaluation.set_features import NetworkFeatures
from distill.export import calibrated_graph, int8
from distill.export.bundle import export_bundle
from distill.export.bundle_files import check_bundle
from distill.export.calibrated_graph import calibrated
from distill.export.calibration import LEAST, Calibration
from distill.export.checksums import write_sums
from distill.export.config import BundleConfig, FaceConfig
from distill.export.embedder import BundleEmbedder
from distill.export.formats import ncnn_int8, onnx_int8
from distill.export.int8_gate import MeasuredLoss, passes
from distill.export.quantisation import Range, RunningGraph, layers, named, quantise
from distill.export.source import ExportSource
from distill.pipeline.int8_judge import gate_on
from teachers.preprocessing import Preprocessing

SIZE = (16, 16)


class Faces:
    """Synthetic faces: each identity has a pattern, each image adds noise to it."""

    def __init__(self, identities: int, images: int = 4) -> None:
        random = np.random.default_rng(1)
        patterns = random.integers(0, 256, (identities, *SIZE, 3))
        self.labels = np.repeat(np.arange(identities), images)
        noise = random.normal(0, 60, (len(self.labels), *SIZE, 3))
        self.pixels = np.clip(patterns[self.labels] + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 32, 3, 2, 1), nn.PReLU(32)
    second = nn.Conv2d(32, 64, 3, 2, 1), nn.PReLU(64)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64 * 16, 32)).eval()


@pytest.fixture(scope="module")
def graph(network) -> onnx.ModelProto:
    return ExportSource(network, Preprocessing.ours(SIZE)).onnx


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return Preprocessing.ours(SIZE)(Faces(16).pixels)


def difference(measure: str, second: float, low: float, high: float) -> MeasuredLoss:
    return MeasuredLoss("set", measure, 0.9, second, [low, high])


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (difference("accuracy", 0.899, -0.002, 0.001), "fine"),
        (difference("accuracy", 0.897, -0.004, -0.002), "too much"),
        (difference("accuracy", 0.897, -0.009, 0.003), "cannot tell"),
        (difference("accuracy", 0.9, -0.009, 0.009), "cannot tell"),
        (difference("accuracy", 0.7, -0.3, -0.1), "too much"),
        (difference("TAR at FAR 1e-3", 0.885, -0.03, 0.0), "fine"),
        (difference("TAR at FAR 1e-3", 0.875, -0.03, -0.02), "too much"),
    ],
)
def test_the_gate_knows_if_a_set_is_conclusive(loss, verdict):
    assert loss.verdict == verdict
    assert verdict in str(loss)


def test_the_gate_needs_a_measure_that_is_known_to_be_fine():
    fine = difference("accuracy", 0.9, 0, 0)
    unknown = difference("accuracy", 0.9, -0.1, 0.1)
    worse = difference("accuracy", 0.7, -0.3, -0.1)
    assert passes([fine, unknown])
    assert not passes([unknown])
    assert not passes([])
    assert not passes([fine, worse])


def quantised(model: onnx.ModelProto, pixels: np.ndarray, judge: int8.Judge) -> int8.Quantised:
    given = calibrated(model, pixels)
    return int8.quantised(given, partial(onnx_int8.in_int8, given), judge, onnx_int8.FLOAT_SHARES)


def test_layers_without_names_are_quantised_too(graph, pixels):
    nameless = onnx.ModelProto()
    nameless.CopyFrom(graph)
    for node in nameless.graph.node:
        node.name = ""
    found = quantised(nameless, pixels, lambda run: [difference("accuracy", 0.9, 0, 0)])
    assert len(found.costs) == 3
    assert found.made.ByteSize() < 0.3 * nameless.ByteSize()
    kinds = [node.op_type for node in found.made.graph.node]
    assert kinds.count("QuantizeLinear") == 3 - len(found.kept)
    expected, given = RunningGraph(nameless)(pixels), RunningGraph(found.made)(pixels)
    assert np.corrcoef(expected.ravel(), given.ravel())[0, 1] > 0.99


def test_a_layer_that_is_left_in_float_is_detected(graph):
    model = named(graph)
    names = [node.name for node in layers(model)]
    with pytest.raises(UserError, match="3 layers still have float32 weights"):
        int8.check_quantised(quantise(model, {}, [], weights=False), model, names)


def test_weights_that_two_layers_share_stay_shared(graph):
    model = named(graph)
    first = layers(model)[0]
    again = model.graph.node.add()
    again.CopyFrom(first)
    again.name = again.output[0] = "again"
    made = quantise(model, {}, [], weights=True)
    assert len({node.input[1] for node in layers_named(made, {first.name, "again"})}) == 1


def layers_named(model: onnx.ModelProto, names: set[str]) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.name in names]


def test_more_inputs_stay_float_until_the_gate_opens(graph, pixels):
    worse, fine = difference("accuracy", 0.7, -0.3, -0.1), difference("accuracy", 0.9, 0, 0)
    answers = [[worse], [worse], [fine]]
    found = quantised(graph, pixels, lambda run: answers.pop(0))
    assert not answers
    assert found.kept == [*found.costs][: len(found.kept)]
    assert len(found.kept) == round(len(found.costs) / 2)


def as_store(folder: Path, faces: Faces) -> Store:
    """The faces as a converted store."""
    folder.mkdir()
    pictures = [encode_jpeg(each) for each in faces.pixels]
    write_layout(folder, zip(pictures, faces.labels.tolist(), strict=True), SIZE)
    return convert(folder, folder.with_suffix(".lmdb"))


@pytest.fixture(scope="module")
def train(tmp_path_factory) -> Store:
    return as_store(tmp_path_factory.mktemp("faces") / "train", Faces(LEAST // 4))


@pytest.fixture
def config() -> BundleConfig:
    face = FaceConfig(preprocessing=Preprocessing.ours(SIZE))
    return BundleConfig(architecture="tiny", num_features=32, face=face)


@pytest.fixture
def bundle(network, config, small_evaluation, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(
        "distill.export.embedder.unweighted_network", lambda *told: copy.deepcopy(network)
    )
    monkeypatch.setenv("DISTILL_WORKSPACE", str(tmp_path / "workspace"))
    return export_bundle(tmp_path / "bundle", network, config, small_evaluation, {})


def run(*arguments: object, to: str = "onnx-int8"):
    return CliRunner().invoke(app, ["export", *map(str, arguments), "--to", to])


@pytest.mark.parametrize("format_name", ["onnx-int8", "ncnn-int8"])
def test_a_bundle_gets_int8_once_with_scores_and_gate(bundle, train, format_name):
    given = ("--calibrate", train.path, "--evaluate", train.path)
    result = run(bundle, *given, to=format_name)
    assert result.exit_code == 0, result.exception
    assert "embed with float32" in result.stderr
    assert "embed with int8: 500 images" in result.stderr
    files = check_bundle(bundle).config.formats[format_name]
    told = json.loads((bundle / "evaluation.json").read_text())["formats"][format_name]
    assert told["sets"]["train"]["tar_at_far"]["1e-3"]["tar"] > 0
    assert {each["verdict"] for each in told["gate"]} == {"fine"}
    assert len(told["sensitivity"]) == 3
    assert BundleEmbedder(bundle, format_name).check_golden() > 0.9999
    written = [(bundle / name).read_bytes() for name in files]
    assert sum(map(len, written)) < 0.4 * (bundle / "model.safetensors").stat().st_size
    again = run(bundle, *given, "--json", to=format_name)
    assert json.loads(again.stdout)["added"] == []
    assert [(bundle / name).read_bytes() for name in files] == written


def with_other_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the weights of the first layer in another order."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    whole = next(each for each in copy.graph.initializer if each.data_type == onnx.TensorProto.INT8)
    whole.raw_data = whole.raw_data[::-1]
    return copy


@pytest.fixture
def digests(monkeypatch) -> list[str]:
    """The digest of the network each time that one embeds a set."""
    found, embed = [], NetworkFeatures._embed

    def counted(features: NetworkFeatures, *told):
        found.append(features.embedder)
        return embed(features, *told)

    monkeypatch.setattr(NetworkFeatures, "_embed", counted)
    return found


@pytest.mark.parametrize("format_name", ["onnx-int8", "ncnn-int8"])
def test_a_set_is_embedded_once_with_each_file(bundle, train, digests, format_name):
    given = ("--calibrate", train.path, "--evaluate", train.path)
    assert run(bundle, *given, to=format_name).exit_code == 0
    assert "" not in digests
    assert len(digests) == len(set(digests)) >= 2


def test_an_interrupted_export_reuses_embeddings(bundle, train, digests, monkeypatch):
    def interrupt(*told) -> None:
        raise KeyboardInterrupt

    given = ("--calibrate", train.path, "--evaluate", train.path)
    with monkeypatch.context() as patched:
        patched.setattr("distill.export.more_formats.describe_again", interrupt)
        assert run(bundle, *given).exit_code == 130
    before = len(digests)
    assert before >= 2
    assert run(bundle, *given).exit_code == 0
    assert len(digests) == before


def test_a_file_that_differs_from_the_judged_one_is_refused(bundle, train, monkeypatch):
    passed = int8.through_the_gate

    def change(*told):
        return with_other_weights(passed(*told))

    monkeypatch.setattr(onnx_int8, "through_the_gate", change)
    result = run(bundle, "--calibrate", train.path, "--evaluate", train.path)
    assert isinstance(result.exception, UserError)
    assert "different embeddings from the graph that passed the gate" in str(result.exception)
    assert not list(bundle.glob("*int8*"))


def test_verify_refuses_an_int8_file_with_other_weights(bundle, train):
    assert run(bundle, "--calibrate", train.path, "--evaluate", train.path).exit_code == 0
    path = bundle / "model.int8.onnx"
    path.write_bytes(with_other_weights(onnx.load(path)).SerializeToString())
    write_sums(bundle)
    result = CliRunner().invoke(app, ["verify", str(bundle)])
    assert isinstance(result.exception, UserError)
    assert "1 of 3 runtimes are bad: onnx-int8" in str(result.exception)
    assert "onnx-int8 gives different embeddings here" in result.stderr


@pytest.fixture
def bad_calibration(monkeypatch) -> None:
    """Use ranges so wide that every value becomes zero, and keep no layer in float."""

    def ranges(model: onnx.ModelProto, pixels: object) -> dict[str, Range]:
        return {node.input[0]: Range(1e3, 0) for node in layers(model)}

    monkeypatch.setattr(calibrated_graph, "calibrate", ranges)
    for each in (onnx_int8, ncnn_int8):
        monkeypatch.setattr(each, "FLOAT_SHARES", (0, 0.3))


@pytest.mark.usefixtures("bad_calibration")
@pytest.mark.parametrize("format_name", ["onnx-int8", "ncnn-int8"])
def test_a_bad_calibration_is_refused_with_the_numbers(bundle, train, format_name):
    before = (bundle / "SHA256SUMS").read_text()
    result = run(bundle, "--calibrate", train.path, "--evaluate", train.path, to=format_name)
    assert result.exit_code != 0
    same = "all 500 images have the same embedding"
    for part in (f"{format_name} format is refused", same, "most sensitive layers"):
        assert part in str(result.exception)
    assert (bundle / "SHA256SUMS").read_text() == before
    assert not list(bundle.glob("*int8*"))


@pytest.mark.usefixtures("bad_calibration")
def test_a_job_delivers_its_bundle_without_a_refused_format(
    network, config, small_evaluation, tmp_path, train
):
    formats, calibration = ("onnx", "onnx-int8"), Calibration(train, gate_on([train]))
    bundle = export_bundle(
        tmp_path / "bundle",
        network,
        config,
        small_evaluation,
        {},
        formats=formats,
        score=lambda embedder: {},
        calibration=calibration,
    )
    assert set(check_bundle(bundle).config.formats) == {"onnx"}
    told = json.loads((bundle / "evaluation.json").read_text())["formats"]["onnx-int8"]
    assert "refused" in told["not run"]
    assert told["sensitivity"]
    assert r"Not in this bundle: onnx\-int8. Reason: " in (bundle / "README.md").read_text()


def test_int8_without_faces_gives_a_one_line_error(bundle):
    assert "--calibrate SET" in str(run(bundle).exception)


def test_int8_with_too_few_faces_gives_a_one_line_error(bundle, tmp_path, train):
    few = as_store(tmp_path / "few", Faces(2)).path
    result = run(bundle, "--calibrate", few, "--evaluate", train.path)
    assert "it has 8 faces; calibrating int8 takes at least 500" in str(result.exception)


def test_calibration_uses_mirrored_faces_too(train):
    pixels = Calibration(train, None).pixels(Preprocessing.ours(SIZE))
    assert pixels.shape == (2 * LEAST, 3, *SIZE)
    np.testing.assert_array_equal(pixels[0], pixels[1][:, :, ::-1])
