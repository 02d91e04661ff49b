"""The commands `embed` and `verify`."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from curation.errors import UserError
from curation.images import encode_jpeg
from distill.cli import bundles

app = typer.Typer()
bundles.register(app)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.exception
    return result


@pytest.fixture
def faces(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"face{i}.jpg" for i in range(3)]
    for path in paths:
        path.write_bytes(encode_jpeg(generator.integers(0, 256, (112, 112, 3), dtype=np.uint8)))
    return paths


def test_embed_compares_every_pair_at_the_bundles_threshold(small_bundle, faces):
    result = json.loads(succeed("embed", small_bundle, *faces, "--json").stdout)
    assert result["images"] == [str(path) for path in faces]
    assert result["threshold"]["cosine"] == 0.5
    assert len(result["pairs"]) == 3
    for pair in result["pairs"]:
        assert pair["same"] == (pair["cosine"] > 0.5)


def test_embed_shows_a_table(small_bundle: Path, faces: list[Path]):
    result = succeed("embed", small_bundle, faces[0], faces[0])
    assert "1.0000" in result.stdout
    assert "yes" in result.stdout
    assert "FAR 1e-2" in result.stdout


def test_embed_writes_the_embeddings(small_bundle: Path, faces: list[Path], tmp_path: Path):
    succeed("embed", small_bundle, *faces, "--output", tmp_path / "embeddings.npy")
    features = np.load(tmp_path / "embeddings.npy")
    assert features.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


def test_embed_notes_an_image_that_is_not_of_the_aligned_size(small_bundle, tmp_path: Path):
    path = tmp_path / "big.jpg"
    path.write_bytes(encode_jpeg(np.zeros((200, 200, 3), np.uint8)))
    result = succeed("embed", small_bundle, path, "--json")
    assert "big.jpg has 200x200 pixels, not 112x112" in result.stderr
    assert json.loads(result.stdout)["pairs"] == []


def test_embed_decides_at_the_rate_asked_for_or_says_which_there_are(small_bundle, faces):
    succeed("embed", small_bundle, *faces, "--far", "1e-2")
    result = run("embed", small_bundle, *faces, "--far", "1e-6")
    assert isinstance(result.exception, UserError)
    assert str(result.exception).endswith("there are 1e-2")


def test_embed_refuses_a_missing_image_and_a_text(small_bundle: Path, tmp_path: Path):
    assert isinstance(run("embed", small_bundle, tmp_path / "none.jpg").exception, UserError)
    text = tmp_path / "text.jpg"
    text.write_text("text")
    result = run("embed", small_bundle, text)
    assert isinstance(result.exception, UserError)
    assert "text.jpg" in str(result.exception)


def test_verify_recomputes_the_golden_embeddings_in_every_runtime(small_bundle: Path):
    result = json.loads(succeed("verify", small_bundle, "--json").stdout)
    assert set(result["golden_cosines"]) == {"onnx", "torch"}
    assert min(result["golden_cosines"].values()) > 0.99999
    assert "all files are as they were" in succeed("verify", small_bundle).stdout


def test_verify_refuses_a_folder_that_is_no_bundle(tmp_path: Path):
    result = run("verify", tmp_path)
    assert isinstance(result.exception, UserError)
    assert "not a bundle" in str(result.exception)
