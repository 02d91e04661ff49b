"""A bundle is complete, is written atomically, and opens as an embedder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import nn

import distill
from curation.errors import UserError
from curation.images import encode_jpeg
from distill.evaluation.thresholds import recommended_thresholds
from distill.export.bundle import export_bundle
from distill.export.config import Thresholds
from distill.export.embedder import BundleEmbedder
from distill.export.golden import golden_images
from distill.export.model_card import model_card
from teachers.embedder import TorchEmbedder, embed_mirrored


@pytest.fixture(scope="module")
def embedder(small_bundle: Path) -> BundleEmbedder:
    return distill.load(small_bundle)


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_the_files_of_a_bundle_are_readable_by_all(small_bundle: Path):
    files = {path.relative_to(small_bundle).as_posix() for path in small_bundle.rglob("*.*")}
    assert files == {
        "model.safetensors",
        "model.onnx",
        "config.json",
        "thresholds.json",
        "evaluation.json",
        "lineage.json",
        "golden/golden.safetensors",
        "README.md",
    }
    assert (small_bundle / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_the_checksums_match_sha256sum(small_bundle: Path):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=small_bundle, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK") == 8


def test_the_config_covers_everything_from_crop_to_comparison(small_bundle: Path):
    config = json.loads((small_bundle / "config.json").read_text())
    assert (config["architecture"], config["width"], config["num_features"]) == (
        "mobilefacenet",
        0.125,
        16,
    )
    face = config["face"]
    assert face["preprocessing"] == {
        "colour": "BGR",
        "mean": 127.5,
        "std": 128.0,
        "size": [32, 32],
    }
    assert (face["layout"], face["mirror"], face["distance"]) == ("NCHW", "sum", "cosine")
    assert face["alignment"]["points"][0] == [38.2946, 51.6963]


def test_the_card_has_counts_and_scores(
    small_bundle: Path,
):
    card = (small_bundle / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    assert "MAdds: convolutions and fully connected layers" in card
    assert "LFR 2019" in card
    assert "| easy | 1,000 / 1,000 | 0.8750 ± 0.0100 | too few pairs" in card
    assert "abababababababab" in card
    assert "| 1e-2 | 0.5000 | 0.7500 | easy |" in card
    assert (
        "accuracy, 0.8750 on easy: same person where cosine > 0.4000, with a FAR of 0.1200" in card
    )
    assert "research" in card


def test_the_card_says_why_a_set_has_no_accuracy(small_config, small_evaluation):
    nothing = dict.fromkeys(["accuracy", "std", "cosine_threshold", "tar", "far"])
    reason = "the network's embedding of image 3 is zero or not finite"
    rates = {
        f"1e-{n}": {"tar": None, "cosine_threshold": None, "reason": reason} for n in range(2, 9)
    }
    report = small_evaluation["sets"]["easy"] | nothing | {"reason": reason, "tar_at_far": rates}
    sets = {"easy": report}
    evaluation = {"sets": sets, "thresholds": recommended_thresholds(sets)}
    card = model_card("x", small_config, evaluation)
    assert "| easy | 1,000 / 1,000 | - | not measured | not measured |" in card
    assert f"easy has no accuracy: {reason}." in card
    assert "At the best ten-fold accuracy" not in card


def test_an_older_evaluation_still_makes_a_card(small_config, small_evaluation):
    """A cached step of an older version has thresholds without measured rates."""
    thresholds = json.loads(json.dumps(small_evaluation["thresholds"]))
    for key in ("far", "tar", "genuine", "impostors"):
        del thresholds["best_accuracy"][key]
    assert Thresholds.model_validate(thresholds).best_accuracy.far is None
    evaluation = {"sets": small_evaluation["sets"], "thresholds": thresholds}
    card = model_card("x", small_config, evaluation)
    assert "0.8750 on easy: same person where cosine > 0.4000.\n" in card


def test_it_embeds_like_the_exported_network(
    embedder: BundleEmbedder, small_network, small_config, faces: np.ndarray
):
    original = TorchEmbedder(small_network, small_config.face.preprocessing, "x", device="cpu")
    expected = embed_mirrored(original, faces)
    np.testing.assert_allclose(embedder.embed(faces), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)


def test_both_runtimes_give_the_same_embeddings(
    embedder: BundleEmbedder, small_bundle: Path, faces: np.ndarray
):
    other = BundleEmbedder(small_bundle, runtime="torch")
    np.testing.assert_allclose(other.embed(faces), embedder.embed(faces), atol=1e-5)
    assert other.check_golden() > 0.99999
    assert embedder.check_golden() > 0.99999


def test_images_may_be_arrays_files_or_bytes(
    embedder: BundleEmbedder, faces: np.ndarray, tmp_path: Path
):
    encoded = [encode_jpeg(face) for face in faces]
    (tmp_path / "face.jpg").write_bytes(encoded[0])
    expected = embedder.embed(encoded)
    assert expected.shape == (3, 16)
    np.testing.assert_array_equal(embedder.embed([tmp_path / "face.jpg"]), expected[:1])
    np.testing.assert_array_equal(embedder.embed([str(tmp_path / "face.jpg")]), expected[:1])
    np.testing.assert_allclose(embedder.embed(list(faces)), embedder.embed(faces), atol=1e-6)
    np.testing.assert_allclose(embedder.embed(faces[1]), embedder.embed(faces)[1:2], atol=1e-6)
    assert embedder.embed([]).shape == (0, 16)
    assert embedder.embed([]).dtype == np.float32


def test_images_in_several_batches_keep_their_order(embedder: BundleEmbedder):
    many = np.random.default_rng(1).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    found = embedder.embed(many)
    np.testing.assert_allclose(found[-1:], embedder.embed(many[-1]), atol=1e-6)


def test_similarity_is_the_cosine(embedder: BundleEmbedder, faces: np.ndarray):
    features = embedder.embed(faces)
    cosines = embedder.similarity(features, features[:2])
    assert cosines.shape == (3, 2)
    assert cosines[0, 0] == pytest.approx(1, abs=1e-6)
    assert cosines[2, 1] == pytest.approx(float(np.dot(features[2], features[1])), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Path("none.jpg"), "none.jpg: cannot read it: No such file"),
        (b"no image", "neither JPEG nor PNG"),
        (np.zeros((32, 32, 3)), "uint8 RGB"),
        (np.zeros((32, 32), np.uint8), "uint8 RGB"),
        (np.zeros((0, 0, 3), np.uint8), "uint8 RGB"),
        (np.zeros((32, 64, 3), np.uint8), "cut the face out by the five points"),
    ],
)
def test_images_that_are_not_aligned_faces_are_refused(embedder, image, message: str):
    with pytest.raises(UserError, match=message):
        embedder.embed([image])


def test_opening_a_bundle_needs_no_torch(small_bundle: Path):
    code = (
        f"import sys, distill; distill.load({str(small_bundle)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_golden_images_differ_in_every_channel():
    images = golden_images((8, 8))
    assert images.shape == (4, 8, 8, 3)
    assert len({channel.tobytes() for image in images for channel in image.T}) == 12


def test_golden_images_of_large_faces_stay_small():
    assert len(golden_images((112, 112))) == 4
    large = golden_images((1500, 2000))
    assert large.shape == (1, 1500, 2000, 3)


@pytest.fixture
def tiny_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16))


def test_an_export_replaces_an_existing_bundle(
    tiny_network, small_config, small_evaluation, tmp_path: Path
):
    destination = tmp_path / "bundle"
    destination.mkdir()
    (destination / "old").write_text("old")
    (tmp_path / ".bundle.partial").mkdir()
    (tmp_path / ".bundle.partial" / "torso").write_text("of an export that was killed")
    export_bundle(destination, tiny_network, small_config, small_evaluation, {}, "named")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert not (destination / "old").exists()
    assert "\n# named\n" in (destination / "README.md").read_text()


def test_an_export_that_fails_leaves_nothing(
    tiny_network, small_config, small_evaluation, tmp_path: Path
):
    with pytest.raises(ValueError, match="JSON"):
        export_bundle(
            tmp_path / "bundle", tiny_network, small_config, small_evaluation, {"x": float("nan")}
        )
    assert list(tmp_path.iterdir()) == []


def test_the_weights_keep_the_names_of_the_backbone(small_bundle: Path, small_network):
    tensors = load_file(small_bundle / "model.safetensors")
    assert set(tensors) == set(small_network.state_dict())
