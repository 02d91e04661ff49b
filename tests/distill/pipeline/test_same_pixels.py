"""One rule from an image to the input: in training, evaluation, the bundle and on a phone."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from small_job import job_text, make_workspace, network_text, run_job, stage_text

import distill
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import decode, encode_jpeg
from curation.pairs import write_pairs
from curation.records.layout_writer import write_layout
from curation.views import open_images
from curation.workspace import Workspace
from distill.backbones import create
from distill.evaluation.features import embed_pixels
from distill.evaluation.set_source import SetSource
from distill.export.bundle import export_bundle
from distill.export.config import BundleConfig, FaceConfig, Framing
from distill.export.embedder import BundleEmbedder
from distill.losses import parse_losses
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import check_fit
from distill.pipeline.teacher_files import open_teacher
from distill.pipeline.training import Stage
from distill.pipeline.work import evaluate_network
from distill.spec_text import parse_spec
from distill.training.config import TrainSettings
from distill.training.data import BatchLoader
from distill.training.plan import create_plan
from teachers.preprocessing import Preprocessing
from tests.conftest import draw

NARROW = (32, 16)
"""A network with this input sees columns 12 to 35 of 48x48 images, in rows 0 to 47."""
JOB = job_text("narrow", stage_text(), student=network_text(size=(32, 16)))


def expected_pixels(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image[:, 12:36], (16, 32), interpolation=cv2.INTER_AREA)


class Recorder:
    """An embedder that records its images."""

    digest, embedding, on_gpu = "recorder", 1, False

    def __init__(self, size: tuple[int, int]) -> None:
        self.preprocessing = Preprocessing(colour="RGB", mean=127.5, std=127.5, size=size)
        self.seen: list[np.ndarray] = []

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.seen.append(self.preprocessing.resize(images))
        return np.ones((len(images), 1), np.float32)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn_store, drawn_folder):
    workspace = make_workspace(tmp_path_factory.mktemp("work"), drawn_store, drawn_folder)
    run_job(workspace, JOB)
    return workspace


@pytest.fixture(scope="module")
def bundle(finished) -> Path:
    return finished.runs / "narrow" / "bundle"


def test_training_sees_the_middle_of_each_image(drawn_store):
    plan = create_plan(drawn_store, TrainSettings(batch_size=12))
    recorder = Recorder(NARROW)
    with BatchLoader(drawn_store, recorder.preprocessing, plan) as loader:
        batch = next(loader.batches(0, 1))
    flips = plan.epoch(0)[1]
    for row, index in enumerate(batch.indices):
        image = decode(drawn_store.read(index))
        shown = image[:, ::-1] if flips[row] else image
        np.testing.assert_array_equal(batch.pixels[row], expected_pixels(shown))


def test_evaluation_sees_the_same(drawn_store):
    recorder = Recorder(NARROW)
    embed_pixels(recorder, lambda i: decode(drawn_store.read(i)), [3])
    np.testing.assert_array_equal(recorder.seen[0][0], expected_pixels(decode(drawn_store.read(3))))


def test_the_bundle_says_how_and_a_phone_does_the_same(bundle, drawn_store):
    """The recipe of docs/bundle.md with cv2 and onnxruntime alone."""
    config = json.loads((bundle / "config.json").read_text())
    framing, pixels = config["face"]["framing"], config["face"]["preprocessing"]
    assert framing == {
        "image_size": [48, 48],
        "crop": {"top": 0, "left": 12, "height": 48, "width": 24},
        "scaling": "area",
    }
    file = drawn_store.read(5)
    image, crop = decode(file), framing["crop"]
    rows = slice(crop["top"], crop["top"] + crop["height"])
    part = image[rows, crop["left"] : crop["left"] + crop["width"]]
    height, width = pixels["size"]
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    sides = [small, small[:, ::-1]]
    batch = np.stack(sides).transpose(0, 3, 1, 2).astype(np.float32)
    (raw,) = session.run(None, {"image": (batch - pixels["mean"]) / np.float32(pixels["std"])})
    feature = raw.sum(axis=0) / np.linalg.norm(raw.sum(axis=0))
    np.testing.assert_allclose(distill.load(bundle).embed([file])[0], feature, atol=1e-5)


def test_golden_images_have_the_size_of_the_faces(bundle):
    from distill.export.golden import GOLDEN_NAME
    from distill.export.safe_tensors import read_arrays

    assert read_arrays(bundle / GOLDEN_NAME)["images"].shape == (4, 48, 48, 3)
    assert BundleEmbedder(bundle, "torch").check_golden() > 0.9999


def test_the_card_says_so_too(bundle):
    card = " ".join((bundle / "README.md").read_text().split())
    assert "an image of 48x48 pixels, of which the middle 48x24 is taken, from row 0" in card
    assert "scaled to 32x16 (area averaging)" in card


def test_the_bundle_takes_faces_of_the_trained_size_and_its_own(bundle):
    embedder = distill.load(bundle)
    for size in ((48, 48), NARROW):
        assert embedder.embed(np.zeros((*size, 3), np.uint8)).shape == (1, 16)
    with pytest.raises(UserError, match=r"112x112 pixels, not the 48x48 or 32x16 of the aligned"):
        embedder.embed(np.zeros((112, 112, 3), np.uint8))
    assert embedder.embed(np.zeros((112, 112, 3), np.uint8), aligned=True).shape == (1, 16)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("crop", {"top": 0, "left": 0, "height": 48, "width": 48}, "framing is .*, but that of"),
        ("crop", {"top": 0, "left": 8, "height": 48, "width": 24}, "framing is .*, but that of"),
        ("crop", {"top": -1, "left": 12, "height": 48, "width": 24}, "framing.crop.top"),
        ("scaling", "bilinear", "framing is .*, but that of"),
        ("image_size", [48, 20], "image_size: images of 48x20 .* show less of a face"),
        ("image_size", [10**9, 10**9], "image_size"),
    ],
)
def test_a_config_with_another_framing_is_refused(key, value, words):
    framing = Framing.of((48, 24), NARROW).model_dump(mode="json") | {
        "image_size": [48, 48],
        "crop": {"top": 0, "left": 12, "height": 48, "width": 24},
    }
    pixels = {"colour": "RGB", "mean": 127.5, "std": 127.5, "size": list(NARROW)}
    FaceConfig.model_validate_json(json.dumps({"preprocessing": pixels, "framing": framing}))
    changed = json.dumps({"preprocessing": pixels, "framing": framing | {key: value}})
    with pytest.raises(ValueError, match=words):
        FaceConfig.model_validate_json(changed)


def test_an_older_bundle_takes_its_own_size_and_is_no_teacher(tmp_path, small_evaluation):
    """Its network was trained on squeezed images, or on images of its size: it is unknown which."""
    config = BundleConfig(
        architecture="mobilefacenet",
        num_features=16,
        width=0.125,
        face=FaceConfig(
            preprocessing=Preprocessing(colour="RGB", mean=127.5, std=127.5, size=NARROW)
        ),
    )
    network = create("mobilefacenet", 16, NARROW, 0.125)
    old = export_bundle(tmp_path / "old", network, config, small_evaluation, {})
    embedder = distill.load(old)
    assert embedder.embed(np.zeros((*NARROW, 3), np.uint8)).shape == (1, 16)
    for aligned in (False, True):
        with pytest.raises(UserError, match="takes only images of 32x16; train and export"):
            embedder.embed(np.zeros((112, 112, 3), np.uint8), aligned=aligned)
    with pytest.raises(UserError, match="when images of another aspect were squeezed"):
        open_teacher(old)


def test_only_cropped_pixels_change_a_trainings_identity(drawn_store):
    def inputs(size: tuple[int, int]) -> dict:
        losses = parse_losses({"arcface": {}}, "losses")
        architecture = Architecture("mobilefacenet", 16, size, 0.125)
        return Stage(architecture, losses, 1, TrainSettings()).inputs(drawn_store, None)

    assert inputs(NARROW)["cropped"] is True
    for size in ((48, 48), (32, 32), (112, 112)):
        assert "cropped" not in inputs(size)


def test_only_cropped_pixels_change_an_evaluations_identity(finished, drawn_store):
    class Steps:
        def perform(self, kind, inputs, work):
            self.inputs = inputs

    def inputs(size: tuple[int, int]) -> dict:
        steps = Steps()
        sets = [SetSource(finished.datasets / "drawn" / "pairs.bin")]
        evaluate_network(Recorder(size), sets, steps, lambda done, total: None, finished.cache)
        return steps.inputs

    assert inputs(NARROW)["cropped"] == ["pairs"]
    assert inputs((32, 32)).keys() == {"network", "preprocessing", "sets"}


@pytest.fixture
def narrow_images(tmp_path) -> Workspace:
    """A workspace whose training images are 48x24, the middle of the drawn ones."""
    faces = [
        (encode_jpeg(np.ascontiguousarray(draw(person, image)[:, 12:36])), person)
        for person in range(4)
        for image in range(4)
    ]
    write_layout(tmp_path / "records", faces, (48, 24))
    convert(tmp_path / "records", tmp_path / "datasets" / "drawn" / "train.lmdb")
    return Workspace(tmp_path)


def test_images_of_the_networks_aspect_are_seen_whole(narrow_images):
    images = open_images(narrow_images.datasets / "drawn" / "train.lmdb")
    recorder = Recorder(NARROW)
    embed_pixels(recorder, lambda i: decode(images.read(i)), [0])
    whole = cv2.resize(decode(images.read(0)), (16, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(recorder.seen[0][0], whole)


def check(workspace, **changes: str) -> None:
    text = JOB.replace('["pairs"]', changes.get("evaluate", "[]"))
    check_fit(
        parse_spec(text.replace("[32, 16]", changes.get("size", "[32, 16]")), "spec"), workspace
    )


def test_a_network_that_needs_larger_images_is_refused(narrow_images, drawn_folder):
    check(narrow_images)
    with pytest.raises(UserError, match=r"student.input_size: data.train 'drawn/train': images"):
        check(narrow_images, size="[32, 32]")
    shutil.copy(drawn_folder / "pairs.bin", narrow_images.datasets / "drawn")
    check(narrow_images, evaluate='["pairs"]')


def test_so_is_one_that_sees_more_than_an_evaluation_set_shows(
    tmp_path, drawn_store, drawn_folder, narrow_images
):
    workspace = make_workspace(tmp_path / "other", drawn_store, drawn_folder)
    narrow = open_images(narrow_images.datasets / "drawn" / "train.lmdb")
    files = [narrow.read(number % len(narrow)) for number in range(40)]
    write_pairs(workspace.datasets / "drawn" / "pairs.bin", files, [True, False] * 10)
    check(workspace, evaluate='["pairs"]')
    with pytest.raises(UserError, match=r"student.input_size: data.evaluate 'pairs': images of"):
        check(workspace, evaluate='["pairs"]', size="[48, 48]")
