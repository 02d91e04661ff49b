"""`inspireface`: a model pack with the MNN file and the manifest that InspireFace reads."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from torch import nn

from curation.errors import UserError
from distill.evaluation.thresholds import recommended_thresholds
from distill.export.config import Thresholds
from distill.export.exporter import exporters, write_format
from distill.export.formats.inspireface import FILE, manifest_of
from distill.export.golden import write_golden
from distill.export.source import ExportSource
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing


def source_of(length: int, size: tuple[int, int], **given) -> ExportSource:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=8), nn.PReLU(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, length),
    ).eval()  # fmt: skip
    return ExportSource(network, Preprocessing.ours(size), **given)


@pytest.fixture(scope="module")
def source(small_evaluation) -> ExportSource:
    thresholds = Thresholds.model_validate(small_evaluation["thresholds"])
    return source_of(512, (112, 112), thresholds=thresholds)


def test_the_manifest_overrides_defaults_that_do_not_fit(source):
    said = manifest_of(source)
    feature = said["feature"]
    assert feature["norm"] == pytest.approx([1 / 127.5] * 3)  # InspireFace's default is 1/128
    assert feature["mean"] == [127.5] * 3
    assert feature["swap_color"] is True  # InspireFace's images are BGR
    assert feature["input_size"] == [112, 112]  # InspireFace's default is 320x320
    assert (feature["input_layer"], feature["outputs_layers"]) == ("image", ["embedding"])
    assert said["similarity_converter"]["threshold"] == 0.5  # InspireFace's default: 0.48


def test_the_curve_has_all_keys_that_the_reader_demands(source):
    wanted = {"threshold", "middle_score", "steepness", "output_min", "output_max"}
    assert set(manifest_of(source)["similarity_converter"]) == wanted


def test_bgr_is_not_swapped_and_no_threshold_is_made_up():
    source = source_of(512, (112, 112))
    source.preprocessing = Preprocessing(colour="BGR", mean=127.5, std=128.0)
    said = manifest_of(source)
    assert said["feature"]["swap_color"] is False
    assert "similarity_converter" not in said
    nothing = Thresholds.model_validate(recommended_thresholds({}))
    assert "similarity_converter" not in manifest_of(source_of(512, (112, 112), thresholds=nothing))


@pytest.mark.parametrize(("length", "size"), [(128, (112, 112)), (512, (112, 96))])
def test_a_network_that_inspireface_cannot_run_is_refused(length, size, tmp_path):
    with pytest.raises(UserError, match="112x112 pixels and 512 dimensions; this one has"):
        exporters()["inspireface"].export(tmp_path, source_of(length, size))


def test_the_pack_is_a_plain_tar_whose_model_embeds(source, tmp_path):
    found = exporters()["inspireface"]
    if found.lacks(found.writes_with) is not None:
        pytest.skip("MNN is not installed")
    write_golden(
        tmp_path, TorchEmbedder(source.network, source.preprocessing, "", "cpu"), (112,) * 2
    )
    assert write_format("inspireface", tmp_path, source) == (FILE,)
    with tarfile.open(tmp_path / FILE, "r:") as pack:
        assert pack.getnames() == ["__inspire__", "feature"]
        assert json.load(pack.extractfile("__inspire__")) == manifest_of(source)


@pytest.mark.parametrize("content", [b"", b"no tar" * 200, b"\0" * 10240])
def test_a_damaged_pack_gives_a_one_line_error(content, tmp_path: Path):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.inspireface"):
        exporters()["inspireface"].run(tmp_path)
