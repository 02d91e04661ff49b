"""The phone examples: compiled and run if there is a compiler; constants match the bundle's."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

import distill
from curation.alignment import align
from distill.export.config import BundleConfig, FaceConfig, Framing
from distill.export.golden import GOLDEN_NAME
from distill.export.safe_tensors import read_arrays
from teachers.preprocessing import Preprocessing

PHONE = Path(__file__).parents[1] / "examples" / "phone"
POINTS = np.array([[130, 150], [206, 138], [170, 190], [146, 238], [214, 226]], np.float32)
CLOSE = 0.999
"""Minimum cosine with our feature: other code rounds the pixels of a rotated face differently"""


def load_contract():
    found = importlib.util.spec_from_file_location("contract", PHONE / "contract.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


CONTRACT = load_contract()
USUAL = BundleConfig(
    architecture="mobilefacenet",
    num_features=128,
    face=FaceConfig(preprocessing=Preprocessing.ours(), framing=Framing.of((112, 112), (112, 112))),
)
LANGUAGES = {"cpp": "contract.hpp", "kotlin": "Contract.kt", "swift": "Contract.swift"}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth image of 320x340 pixels; its face is rotated and twice the aligned size."""
    rows, columns = np.mgrid[0:340, 0:320].astype(np.float64)
    waves = [np.sin(columns / a + rows / b) for a, b in ((37, 61), (53, -41), (-71, 29))]
    return np.round(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_constants_are_those_of_a_usual_bundle(language: str):
    config = json.loads(USUAL.model_dump_json())
    assert (PHONE / LANGUAGES[language]).read_text() == CONTRACT.written(config, language)


@pytest.mark.parametrize(
    ("content", "language", "said"),
    [
        pytest.param("{}", "cpp", "is not the config.json of a bundle", id="another-file"),
        pytest.param("[1]", "cpp", "is not the config.json of a bundle", id="a-list"),
        pytest.param("no", "cpp", "is not the config.json of a bundle", id="not-json"),
        pytest.param(None, "cpp", "No such file or directory", id="missing"),
        pytest.param("{}", "rust", "invalid choice: 'rust'", id="language"),
    ],
)
def test_a_wrong_argument_is_one_line(
    content: str | None, language: str, said: str, tmp_path: Path, capsys, monkeypatch
):
    config = tmp_path / "config.json"
    if content is not None:
        config.write_text(content)
    monkeypatch.setattr(sys, "argv", ["contract.py", str(config), language])
    with pytest.raises(SystemExit):
        CONTRACT.main()
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["face.hpp", "FaceEmbedder.kt", "FaceEmbedder.swift"])
def test_every_constant_is_used_and_none_is_written_out(name: str):
    source = (PHONE / name).read_text()
    used = set(re.findall(r"[Cc]ontract(?:::|\.)(\w+)", source)) - {"hpp", "py", "kt", "swift"}
    elsewhere = {"embeddingLength"} if name != "FaceEmbedder.swift" else set()
    assert used | elsewhere >= set(CONTRACT.constants(json.loads(USUAL.model_dump_json())))
    assert not re.search(r"\b(112|127\.5|128|38\.29)\b", source)


@pytest.mark.parametrize("name", ["OnnxNetwork.kt", "LiteRtNetwork.kt"])
def test_networks_take_their_sizes_from_the_contract(name: str):
    source = (PHONE / name).read_text()
    used = set(re.findall(r"Contract\.(\w+)", source)) - {"kt"}
    assert {"inputHeight", "inputWidth"} <= used
    assert used <= set(CONTRACT.constants(json.loads(USUAL.model_dump_json())))
    assert not re.search(r"\b(112|127\.5|128|512)\b", source)


def own_input(bundle: Path, picture: np.ndarray) -> np.ndarray:
    preprocessing = distill.load(bundle).config.face.preprocessing
    return preprocessing(align(picture, POINTS)[None])[0]


def words_of(points: np.ndarray) -> list[str]:
    return [f"{number:g}" for number in points.reshape(-1)]


def compiled(source: str, bundle: Path, folder: Path, flags: Sequence[str] = ()) -> Path:
    for name in ("face.hpp", source):
        shutil.copy(PHONE / name, folder)
    config = json.loads((bundle / "config.json").read_text())
    (folder / "contract.hpp").write_text(CONTRACT.written(config, "cpp"))
    program = folder / "program"
    command = ["g++", "-O1", "-std=c++17", "-Wall", "-Werror", folder / source, *flags]
    subprocess.run([*command, "-o", program], check=True, capture_output=True)
    return program


def export_small(destination: Path, pixels: Preprocessing) -> Path:
    """A bundle of a small network with random weights."""
    import torch

    from distill.backbones import create
    from distill.evaluation.thresholds import recommended_thresholds
    from distill.export.bundle import export_bundle

    torch.manual_seed(0)
    network = create("mobilefacenet", 16, pixels.size, 0.125).eval()
    face = FaceConfig(preprocessing=pixels, framing=Framing.of((112, 112), pixels.size))
    config = BundleConfig(architecture="mobilefacenet", num_features=16, width=0.125, face=face)
    evaluation = {"sets": {}, "thresholds": recommended_thresholds({})}
    return export_bundle(destination, network, config, evaluation, {})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with unusual colours, crop and scale."""
    pixels = Preprocessing(colour="BGR", mean=(120.0, 127.5, 130.0), std=128.0, size=(64, 48))
    return export_small(tmp_path_factory.mktemp("phone") / "small", pixels)


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes aligned faces as they are, so that its golden images are its input."""
    return export_small(tmp_path_factory.mktemp("phone") / "square", Preprocessing.ours())


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_cpp_makes_the_input_of_the_golden_features(bundle: Path, picture, tmp_path: Path):
    program = compiled("print_input.cpp", bundle, tmp_path)
    cv2.imwrite(str(tmp_path / "photo.ppm"), picture[..., ::-1])
    expected = own_input(bundle, picture)
    inputs = []
    for turn, wanted in (("plain", expected), ("mirrored", expected[..., ::-1])):
        done = subprocess.run(
            [program, turn, tmp_path / "photo.ppm", *words_of(POINTS)],
            check=True, capture_output=True,
        )  # fmt: skip
        inputs.append(np.frombuffer(done.stdout, "<f4").reshape(expected.shape))
        assert np.abs(inputs[-1] - wanted).max() * 128 < 3  # out of 255
    student = distill.load(bundle)
    from distill.export.formats.onnx import OnnxExporter

    sums = OnnxExporter().run(bundle)(np.stack(inputs)).sum(axis=0)
    ours = student.embed(align(picture, POINTS))[0]
    assert float(sums @ ours / np.linalg.norm(sums)) > CLOSE


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
@pytest.mark.parametrize("content", [b"", b"P6 9 9 255\n", b"P5 1 1 255\n ", b"P6 -1 4 255\n"])
def test_cpp_refuses_a_file_that_is_not_a_image(bundle: Path, tmp_path: Path, content: bytes):
    program = compiled("print_input.cpp", bundle, tmp_path)
    (tmp_path / "photo.ppm").write_bytes(content)
    words = [program, "plain", tmp_path / "photo.ppm", *words_of(POINTS)]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")


def run_comparison(program: Path, bundle: Path, faces: list, points, folder: Path) -> float:
    """The cosine of two images by a program."""
    names = [folder / "left.ppm", folder / "right.ppm"]
    for name, face in zip(names, faces, strict=True):
        cv2.imwrite(str(name), np.ascontiguousarray(face[..., ::-1]))
    words = [word for name in names for word in (name, *words_of(points))]
    done = subprocess.run([program, bundle, "-2", *words], check=True, capture_output=True)
    cosine, decision = done.stdout.decode().split(" ", 1)
    assert decision == "same person\n"
    return float(cosine)


def check_comparisons(
    compile_with: Callable[[Path, Path], Path], bundle: Path, square: Path, picture, folder: Path
) -> None:
    """A program compares a rotated face as we do, and golden images as the golden features do."""
    program = compile_with(bundle, folder)
    faces = [picture, np.roll(picture, 40, axis=1)]
    ours = distill.load(bundle).embed([align(each, POINTS) for each in faces])
    found = run_comparison(program, bundle, faces, POINTS, folder)
    assert found == pytest.approx(float(ours[0] @ ours[1]), abs=0.005)

    program = compile_with(square, folder)
    golden = read_arrays(square / GOLDEN_NAME)
    template = np.array(USUAL.face.alignment.points, np.float32)
    found = run_comparison(program, square, [*golden["images"][:2]], template, folder)
    assert found == pytest.approx(float(golden["features"][0] @ golden["features"][1]), abs=2e-5)

    done = subprocess.run([program, bundle, "0", *["1"] * 22], check=False, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: 1: not a binary PPM file")


ONNXRUNTIME = Path(os.environ.get("ONNXRUNTIME_ROOT", "/usr"))
NCNN = Path(os.environ.get("NCNN_ROOT", "/usr"))


@pytest.mark.slow
@pytest.mark.skipif(
    not (ONNXRUNTIME / "include/onnxruntime_c_api.h").is_file(),
    reason="$ONNXRUNTIME_ROOT is not an unpacked release of ONNX Runtime",
)
def test_cpp_with_onnxruntime(bundle: Path, square: Path, picture: np.ndarray, tmp_path: Path):
    library = f"-L{ONNXRUNTIME / 'lib'}", f"-Wl,-rpath,{ONNXRUNTIME / 'lib'}", "-lonnxruntime"
    flags = f"-I{ONNXRUNTIME / 'include'}", *library
    build = partial(compiled, "embed_onnxruntime.cpp", flags=flags)
    check_comparisons(build, bundle, square, picture, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    not (NCNN / "include/ncnn/net.h").is_file(),
    reason="no headers of ncnn: install libncnn-dev, or set $NCNN_ROOT to where it was installed",
)
def test_cpp_with_ncnn(bundle: Path, square: Path, picture: np.ndarray, tmp_path: Path):
    from distill.export.more_formats import add_formats

    pytest.importorskip("pnnx")
    folders = [shutil.copytree(each, tmp_path / each.name) for each in (bundle, square)]
    for folder in folders:
        add_formats(folder, ["ncnn"])
    library = f"-L{NCNN / 'lib'}", f"-Wl,-rpath,{NCNN / 'lib'}", "-lncnn", "-fopenmp"
    build = partial(compiled, "embed_ncnn.cpp", flags=(f"-I{NCNN / 'include'}", *library))
    check_comparisons(build, *folders, picture, tmp_path)


@pytest.mark.parametrize("format", ["onnx", "onnx-feature"])
def test_python_without_this_package_compares_as_it_does(
    format: str, bundle: Path, picture: np.ndarray, tmp_path: Path
):
    if format == "onnx-feature":
        from distill.export.more_formats import add_formats

        bundle = shutil.copytree(bundle, tmp_path / "bundle")
        add_formats(bundle, [format])
    other = np.roll(picture, 40, axis=1)
    for name, each in (("left.png", picture), ("right.png", other)):
        cv2.imwrite(str(tmp_path / name), np.ascontiguousarray(each[..., ::-1]))
    points = " ".join(words_of(POINTS))
    words = [tmp_path / "left.png", points, tmp_path / "right.png", points]
    done = subprocess.run(
        [sys.executable, "-I", PHONE / "embed.py", bundle, *words], check=True, capture_output=True
    )
    ours = distill.load(bundle).embed([align(picture, POINTS), align(other, POINTS)])
    assert float(done.stdout) == pytest.approx(float(ours[0] @ ours[1]), abs=1e-4)


def test_python_takes_older_bundles_without_framing(square: Path, picture, tmp_path: Path):
    older = shutil.copytree(square, tmp_path / "older")
    config = json.loads((older / "config.json").read_text())
    del config["face"]["framing"]
    (older / "config.json").write_text(json.dumps(config))
    words = []
    for name, each in (("left.png", picture), ("right.png", np.roll(picture, 40, axis=1))):
        cv2.imwrite(str(tmp_path / name), np.ascontiguousarray(each[..., ::-1]))
        words += [tmp_path / name, " ".join(words_of(POINTS))]
    scores = [
        subprocess.run(
            [sys.executable, "-I", PHONE / "embed.py", bundle, *words],
            check=True, capture_output=True,
        ).stdout
        for bundle in (square, older)
    ]  # fmt: skip
    assert scores[0] == scores[1] != b"1.000000\n"
