"""The commands `embed` and `verify`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from standin_detector import drawn_face, picture_with, standin_detector
from typer.testing import CliRunner

from curation.errors import UserError
from curation.images import encode_jpeg
from distill.cli import bundles, verifying
from distill.export.checksums import write_sums
from distill.export.exporter import exporters

app = typer.Typer()
bundles.register(app)
verifying.register(app)


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
    threshold = result["threshold"]
    assert (threshold["cosine"], threshold["far"], threshold["set"]) == (0.5, 0.01, "easy")
    assert threshold["impostors"] == 1000
    assert len(result["pairs"]) == 3
    for pair in result["pairs"]:
        assert pair["same"] == (pair["cosine"] > 0.5)


def test_embed_shows_a_table(small_bundle: Path, faces: list[Path]):
    result = succeed("embed", small_bundle, faces[0], faces[0])
    assert "1.0000" in result.stdout
    assert "yes" in result.stdout
    assert "chosen for FAR 1e-2; FAR 0.01, TAR 0.7500, measured on easy" in result.stdout


def test_embed_compares_each_face_in_photographs(small_bundle: Path, tmp_path: Path):
    detector = standin_detector(tmp_path / "standin.onnx")
    party, me = tmp_path / "party.jpg", tmp_path / "me.jpg"
    together = [(drawn_face(1), (2, 2), 224), (drawn_face(2), (12, 3), 150)]
    small = (drawn_face(3), (22, 3), 40)
    party.write_bytes(encode_jpeg(picture_with([*together, small], (320, 832))))
    me.write_bytes(encode_jpeg(picture_with(together[:1], (320, 384))))
    result = succeed("embed", small_bundle, party, me, "--detector", detector, "--json")
    told = json.loads(result.stdout)
    assert told["images"] == [f"{party}/1", f"{party}/2", str(me)]
    cosines = {(pair["left"], pair["right"]): pair["cosine"] for pair in told["pairs"]}
    assert cosines[f"{party}/1", str(me)] > 0.95
    assert f"{party}/3: rejected, small" in result.stderr


def test_embed_names_photographs_without_a_face(small_bundle: Path, tmp_path: Path):
    detector = standin_detector(tmp_path / "standin.onnx")
    empty = picture(tmp_path / "empty.jpg", 200, 300)
    result = run("embed", small_bundle, empty, "--detector", detector)
    assert isinstance(result.exception, UserError)
    assert "no face to embed" in str(result.exception)
    (tmp_path / "text.jpg").write_text("hello")
    result = run("embed", small_bundle, tmp_path / "text.jpg", "--detector", detector)
    assert "text.jpg: is a text file" in str(result.exception)


@pytest.mark.parametrize(
    ("given", "told"),
    [("*.png", "no file matches {}/*.png"), ("", "{} is a folder; give its images: {}/*.jpg")],
    ids=["pattern", "folder"],
)
def test_embed_explains_paths_that_are_no_images(small_bundle, faces, tmp_path, given, told):
    result = run("embed", small_bundle, faces[0], tmp_path / given)
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(told.format(tmp_path, tmp_path))


def test_embed_writes_the_embeddings(small_bundle: Path, faces: list[Path], tmp_path: Path):
    succeed("embed", small_bundle, *faces, "--output", tmp_path / "embeddings.npy")
    features = np.load(tmp_path / "embeddings.npy")
    assert features.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("face.jpg", "the embeddings are a .npy file; give it such a name"),
        ("none/a.npy", "no such folder"),
        ("folder.npy", "is a folder; name a file"),
    ],
)
def test_embed_overwrites_nothing_but_arrays(small_bundle, faces, tmp_path, name, told):
    (tmp_path / "face.jpg").write_bytes(b"an image")
    (tmp_path / "folder.npy").mkdir()
    result = run("embed", small_bundle, faces[0], "--output", tmp_path / name)
    assert isinstance(result.exception, UserError)
    assert told in str(result.exception)
    assert (tmp_path / "face.jpg").read_bytes() == b"an image"


def picture(path: Path, *size: int) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.write_bytes(encode_jpeg(pixels))
    return path


@pytest.mark.parametrize("size", [(200, 200), (480, 640), (113, 112), (64, 64)])
def test_embed_refuses_images_without_the_aligned_size(small_bundle, faces, tmp_path, size):
    photograph = picture(tmp_path / "photo.jpg", *size)
    result = run("embed", small_bundle, faces[0], photograph)
    assert isinstance(result.exception, UserError)
    told = f"photo.jpg has {size[0]}x{size[1]} pixels, not the 112x112 or 32x32 of the aligned"
    assert told in str(result.exception)
    assert "--aligned" in str(result.exception)
    assert result.stdout == ""


def test_embed_takes_any_size_with_the_aligned_option(small_bundle, faces, tmp_path):
    other = picture(tmp_path / "large.jpg", 224, 224)
    result = json.loads(
        succeed("embed", small_bundle, faces[0], other, "--aligned", "--json").stdout
    )
    assert len(result["pairs"]) == 1
    result = run("embed", small_bundle, picture(tmp_path / "wide.jpg", 480, 640), "--aligned")
    assert "wide.jpg has 480x640 pixels; even an aligned face must be square" in str(
        result.exception
    )


def test_embed_takes_images_of_the_networks_own_input_size(small_bundle, tmp_path: Path):
    succeed("embed", small_bundle, picture(tmp_path / "small.jpg", 32, 32))


def test_the_pairs_of_very_many_images_are_not_listed(small_bundle, faces, monkeypatch):
    monkeypatch.setattr(bundles, "MOST_COMPARED", 2)
    result = succeed("embed", small_bundle, *faces, "--json")
    assert "3 images: pairs are shown for at most 2" in result.stderr
    assert json.loads(result.stdout)["pairs"] == []


def rates_of(bundle: Path, change: Callable[[dict], object]) -> Path:
    """The bundle with other thresholds and matching checksums."""
    thresholds = json.loads((bundle / "thresholds.json").read_text())
    change(thresholds)
    (bundle / "thresholds.json").write_text(json.dumps(thresholds))
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps(config | {"thresholds": None}))
    (bundle / "SHA256SUMS").unlink()
    write_sums(bundle)
    return bundle


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    """A copy that tests may change."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def without_rates(thresholds: dict) -> None:
    thresholds["false_accept_rates"] = dict.fromkeys(thresholds["false_accept_rates"])


def test_embed_states_the_far_of_the_best_accuracy(bundle, faces):
    def change(thresholds: dict) -> None:
        without_rates(thresholds)
        thresholds["best_accuracy"]["far"] = 0.05

    result = succeed("embed", rates_of(bundle, change), faces[0], faces[0])
    assert "yes" in result.stdout
    said = " ".join(result.stdout.split())
    assert "cosine > 0.4000 (best ten-fold accuracy, 0.8750; FAR 0.05, TAR 0.8700" in said
    assert "measured on easy with 1,000 impostor pairs" in said


def none_at_all(thresholds: dict) -> None:
    without_rates(thresholds)
    thresholds["best_accuracy"] = None


def of_before(thresholds: dict) -> None:
    without_rates(thresholds)
    for key in ("far", "tar", "genuine", "impostors"):
        del thresholds["best_accuracy"][key]


@pytest.mark.parametrize(
    "change", [none_at_all, of_before, without_rates], ids=["none", "of before", "12 % pass"]
)
def test_embed_decides_nothing_without_a_threshold(bundle, faces, change):
    bundle = rates_of(bundle, change)
    result = succeed("embed", bundle, faces[0], faces[0])
    assert "yes" not in result.stdout
    assert "no decisions: no threshold of the bundle keeps" in result.stderr
    found = json.loads(succeed("embed", bundle, faces[0], faces[0], "--json").stdout)
    assert (found["threshold"], found["pairs"][0]["same"]) == (None, None)


def test_embed_decides_at_the_requested_rate(small_bundle, faces):
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


def test_verify_checks_the_golden_embeddings_in_all_runtimes(small_bundle: Path):
    result = json.loads(succeed("verify", small_bundle, "--json").stdout)
    assert set(result["golden_cosines"]) == {"onnx", "torch"}
    assert min(result["golden_cosines"].values()) > 0.99999
    assert "all files match their checksums" in succeed("verify", small_bundle).stdout


def test_verify_continues_if_a_format_cannot_run_here(small_bundle, monkeypatch):
    monkeypatch.setattr(exporters()["onnx"], "runs_with", ("no_such_package",))
    found = json.loads(succeed("verify", small_bundle, "--json").stdout)
    assert found["golden_cosines"]["onnx"] is None
    assert found["golden_cosines"]["torch"] > 0.9999
    assert set(found["unchecked"]) == {"onnx"}
    assert "no_such_package is not installed" in succeed("verify", small_bundle).stdout


def test_verify_checks_all_formats_and_reports_each_bad_one(small_bundle: Path, tmp_path: Path):
    bundle = Path(shutil.copytree(small_bundle, tmp_path / "bundle"))
    (bundle / "model.onnx").write_bytes(b"no graph")
    weights = bundle / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4000:] = np.full(1000, 3, "<f4").tobytes()
    weights.write_bytes(content)
    write_sums(bundle)
    shown, told = run("verify", bundle), run("verify", bundle, "--json")
    for result in (shown, told):
        assert result.exit_code == 1
        assert "2 of 2 runtimes are bad: onnx, torch" in str(result.exception)
    found = json.loads(told.stdout)
    assert found["golden_cosines"] == {"onnx": None, "torch": None}
    assert "model.onnx" in found["faults"]["onnx"]
    assert "different embeddings" in found["faults"]["torch"]
    assert shown.stdout.count("bad") == 2
    assert "onnx: " in shown.stderr


def test_verify_refuses_a_folder_that_is_not_a_bundle(tmp_path: Path):
    result = run("verify", tmp_path)
    assert isinstance(result.exception, UserError)
    assert "not a bundle" in str(result.exception)


def test_verify_reports_a_missing_folder(tmp_path: Path):
    result = run("verify", tmp_path / "sampel")
    assert isinstance(result.exception, UserError)
    assert "no such folder" in str(result.exception)
    assert "`distill pull JOB`" in str(result.exception)
