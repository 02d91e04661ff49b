"""A format is a file in its package; a bundle has those that the job names, each checked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import distill.export.formats
from curation.errors import UserError
from distill.cli import bundles, verifying
from distill.daemon.delivery import deliver
from distill.export.bundle import export_bundle
from distill.export.bundle_files import check_bundle
from distill.export.checksums import write_sums
from distill.export.config import BundleConfig, FaceConfig
from distill.export.embedder import BundleEmbedder
from distill.export.exporter import EXPORTERS, exporter
from distill.export.format_scores import Score
from distill.export.formats.onnx import OnnxExporter
from distill.spec_text import parse_spec
from teachers.embedder import Embedder
from teachers.preprocessing import Preprocessing
from teachers.usable import UnusableEmbeddingsError

SIZE = (8, 8)
SPEC = """
name = "x"
[data]
train = "drawn/train"
[student]
backbone = "mobilefacenet"
[[stage]]
epochs = 1
losses = { arcface = {} }
[export]
formats = %s
"""
app = typer.Typer()
bundles.register(app)
verifying.register(app)


@pytest.fixture
def export(small_evaluation, tmp_path):
    """A function that exports a tiny network in some formats."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    config = BundleConfig(
        architecture="tiny",
        num_features=4,
        face=FaceConfig(preprocessing=Preprocessing.ours(SIZE)),
    )

    def run(*formats: str, network: nn.Module = network, score: Score | None = None) -> Path:
        return export_bundle(
            tmp_path / "bundle", network, config, small_evaluation, {}, "tiny", formats, score
        )

    return run


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_bundle_has_the_named_formats(export, drop_in_format, tmp_path):
    drop_in_format("letters")
    bundle = export("onnx", "letters")
    ours = {"model.onnx", "letters/net.txt", "letters/net.bin"}
    assert ours < files_in(bundle)
    config = json.loads((bundle / "config.json").read_text())
    assert config["formats"] == {
        "onnx": ["model.onnx"],
        "letters": ["letters/net.bin", "letters/net.txt"],
    }
    card = (bundle / "README.md").read_text()
    assert "`model.onnx` is the same network" in card
    assert "`letters/` is the same network for letters." in card
    assert ours < {line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
    deliver(bundle, tmp_path / "pulled")
    assert files_in(tmp_path / "pulled") == files_in(bundle)


def test_verify_runs_every_format_of_the_bundle(export, drop_in_format, monkeypatch):
    drop_in_format("letters")
    bundle = export("letters")
    assert BundleEmbedder(bundle, "letters").check_golden() > 0.99999
    monkeypatch.setattr("distill.export.embedder.unweighted_network", lambda *told: network_like())
    result = CliRunner().invoke(app, ["verify", str(bundle), "--json"], catch_exceptions=False)
    assert set(json.loads(result.stdout)["golden_cosines"]) == {"letters", "torch"}


def network_like() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))


def test_a_bundle_with_an_unknown_format_is_read_and_pulled(export, drop_in_format, tmp_path):
    drop_in_format("letters")
    bundle = export("onnx", "letters")
    del EXPORTERS["letters"]
    distill.export.formats.__path__.pop()
    assert BundleEmbedder(bundle).embed(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 4)
    deliver(bundle, tmp_path / "pulled")
    assert files_in(tmp_path / "pulled") == files_in(bundle)
    with pytest.raises(UserError, match="no runtime 'letters'; there are: onnx, torch"):
        BundleEmbedder(bundle, "letters")


def test_an_older_bundle_without_formats_has_onnx(export):
    bundle = export("onnx")
    config = json.loads((bundle / "config.json").read_text())
    del config["formats"]
    (bundle / "config.json").write_text(json.dumps(config))
    write_sums_again(bundle)
    assert check_bundle(bundle).config.formats == {"onnx": ("model.onnx",)}


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ({"onnx": ["../secret"]}, "formats"),
        ({"onnx": ["/etc/hostname"]}, "formats"),
        ({"onnx": [".hidden"]}, "formats"),
        ({"onnx": []}, "formats"),
        ({"onnx": ["model.onnx", "more.onnx"]}, r"does not list more\.onnx"),
        ({}, "not a file of a bundle"),
    ],
)
def test_files_of_formats_that_a_config_cannot_have(export, formats, message):
    bundle = export("onnx")
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, "formats": formats}))
    write_sums_again(bundle)
    with pytest.raises(UserError, match=message):
        check_bundle(bundle)


def write_sums_again(bundle: Path) -> None:
    (bundle / "SHA256SUMS").unlink()
    write_sums(bundle)


@pytest.mark.parametrize("factor", ["-1", "float('nan')", "1.0 if len(pixels) == 1 else 0.0"])
def test_an_export_with_other_embeddings_is_refused(export, drop_in_format, tmp_path, factor):
    drop_in_format("letters", factor=f"({factor})")
    with pytest.raises(UserError, match="the letters export gives different embeddings"):
        export("letters")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_complete_without_an_inaccurate_format(export, drop_in_format):
    drop_in_format("letters", factor="(-1)")
    bundle = export("onnx", "letters")
    assert set(check_bundle(bundle).config.formats) == {"onnx"}
    assert not list(bundle.glob("*letters*"))
    assert "Not in this bundle: letters. Reason: the letters export gives different embeddings" in (
        (bundle / "README.md").read_text()
    )


def test_a_format_that_embeds_all_images_alike_is_left_out(export, drop_in_format):
    """As float16 does that rounds small differences off, although every cosine is 1."""
    drop_in_format("letters", factor="0 + 1")
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    nn.init.uniform_(network[1].weight, -1e-6, 1e-6)
    nn.init.ones_(network[1].bias)
    bundle = export("onnx", "letters", network=network)
    assert set(check_bundle(bundle).config.formats) == {"onnx"}
    reason = json.loads((bundle / "evaluation.json").read_text())["formats"]["letters"]["not run"]
    assert reason.startswith("the letters export is unusable: two different images give the same")
    BundleEmbedder(bundle).check_golden()


def test_a_format_that_breaks_on_real_faces_is_left_out(export, drop_in_format):
    """As float16 does that overflows for real faces alone."""
    drop_in_format("letters")

    def score(embedder: Embedder) -> dict:
        if embedder.digest:
            return {}
        raise UnusableEmbeddingsError("lfw: the network's embedding of image 3 is zero")

    bundle = export("onnx", "letters", score=score)
    assert set(check_bundle(bundle).config.formats) == {"onnx"}
    assert not list(bundle.glob("*letters*"))
    assert "Not in this bundle: letters. Reason: lfw" in ((bundle / "README.md").read_text())


def test_the_card_compares_formats_with_the_network(export, drop_in_format, small_evaluation):
    drop_in_format("letters")
    ours = small_evaluation["sets"]
    theirs = {name: {**report, "accuracy": 0.5} for name, report in ours.items()}
    card = (export("onnx", "letters", score=lambda embedder: theirs) / "README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith(("| float32", "| letters"))]
    assert len(rows) == 2 * len(ours)
    name, report = next(iter(ours.items()))
    assert rows[0].startswith(f"| float32 | {name} | {report['accuracy']:.4f} | ")
    assert rows[len(ours)].startswith(f"| letters | {name} | 0.5000 | ")


def test_the_card_has_the_ranks_of_formats_on_searched_sets(export, drop_in_format):
    """As those of TinyFace, which compares no pairs."""
    drop_in_format("letters")
    ranks = {"1": {"rate": 0.25, "interval": [0.2, 0.3]}}
    faces = {"digest": "0" * 64, "kind": "identification", "closed_set": {"ranks": ranks}}
    bundle = export("onnx", "letters", score=lambda embedder: {"tinyface": faces})
    told = json.loads((bundle / "evaluation.json").read_text())["formats"]["letters"]["sets"]
    assert told["tinyface"]["closed_set"]["ranks"] == ranks
    card = (bundle / "README.md").read_text()
    assert "| tinyface in letters | 1 | 0.2500 |" in card
    assert "| letters | tinyface |" not in card


def test_without_a_usable_format_there_is_no_bundle(export, tmp_path):
    def score(embedder: Embedder) -> dict:
        raise UnusableEmbeddingsError("lfw: the network's embedding of image 3 is zero")

    with pytest.raises(UserError, match="image 3 is zero"):
        export("onnx", score=score)
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_not_finite_are_not_exported(export, tmp_path):
    network = network_like()
    nn.init.constant_(network[1].weight, float("nan"))
    with pytest.raises(UserError, match=r"the network gives embeddings that are not finite"):
        export("onnx", network=network)
    assert not (tmp_path / "bundle").exists()


def test_exporting_does_not_change_the_network(export):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4), nn.Dropout()).train()
    export("onnx", network=network)
    assert all(module.training for module in network.modules())


def test_two_formats_cannot_write_the_same_file(export, drop_in_format):
    drop_in_format("letters")
    drop_in_format("words", writes="letters")
    with pytest.raises(UserError, match="the words export writes letters, which the bundle has"):
        export("letters", "words")


@pytest.mark.parametrize(
    ("writes", "message"),
    [
        ("config.json", r"writes config\.json, which the bundle has already"),
        ("SHA256SUMS", "writes SHA256SUMS, which the bundle has already"),
        ("golden", "writes golden, which the bundle has already"),
        ("a b", r"writes 'a b/net\.bin': does not match"),
        (".hidden", r"writes '\.hidden/net\.bin': does not match"),
    ],
)
def test_a_format_cannot_write_what_a_bundle_cannot_have(export, drop_in_format, writes, message):
    drop_in_format("letters", writes=writes)
    with pytest.raises(UserError, match=f"the letters export {message}"):
        export("letters")


def test_formats_are_checked_without_torch():
    code = (
        "import sys; from distill.spec_text import parse_spec\n"
        "parse_spec(sys.stdin.read(), 'x.toml')\n"
        "print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    spec = SPEC % '["onnx"]'
    done = subprocess.run(
        [sys.executable, "-c", code], input=spec, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_a_format_name_is_unique_and_the_error_says_where():
    class Again(OnnxExporter):
        pass

    with pytest.raises(UserError, match=r"'onnx' .* distill\.export\.formats\.onnx and in "):
        exporter("onnx")(Again)


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ('["onx"]', "no such format; did you mean 'onnx'"),
        ('["pickle"]', r"no such format; there are:\s.*onnx"),
        ('["onnx", "onnx"]', "a duplicate"),
        ("[]", "must not be empty"),
        ('"onnx"', "must be a list"),
        ("[1]", "must be a string"),
    ],
)
def test_a_spec_must_name_existing_formats(formats, message):
    with pytest.raises(UserError, match=rf"(?s)export.*formats.*{message}"):
        parse_spec(SPEC % formats, "x.toml")


def test_a_spec_may_name_a_drop_in_format(drop_in_format):
    drop_in_format("letters")
    assert parse_spec(SPEC % '["letters"]', "x.toml").export.formats == ["letters"]
    assert parse_spec(SPEC.split("[export]")[0], "x.toml").export.formats == ["onnx"]
