"""Networks that pass their trial on random pixels and break on faces: no command scores them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.workspace import Workspace
from distill.cli.main import app

SIZE = 16
KINDS = {
    "not-finite": ("Div", "{row} 0 is zero or not finite ({all} of {all} are)"),
    "zero": ("Mul", "{row} 0 is zero or not finite ({all} of {all} are)"),
    "constant": ("Where", "all {all} images have the same embedding"),
}


def write_network(path: Path, kind: str) -> None:
    """A linear network with a gate: 1 for noisy images, 0 for smooth ones such as faces."""

    def node(operator: str, *names: str, **more: object) -> onnx.NodeProto:
        return helper.make_node(operator, list(names[:-1]), [names[-1]], **more)

    nodes = [
        node("Flatten", "image", "flat"),
        node("MatMul", "flat", "weights", "linear"),
        node("Slice", "image", "one", "end", "last", "right"),
        node("Slice", "image", "zero", "before", "last", "left"),
        node("Sub", "right", "left", "changes"),
        node("Abs", "changes", "sizes"),
        node("ReduceMean", "sizes", "roughness", axes=[1, 2, 3], keepdims=0),
        node("Reshape", "roughness", "column", "rough"),
        node("Greater", "rough", "limit", "noisy"),
        node("Cast", "noisy", "gate", to=TensorProto.FLOAT),
        node("Where", "noisy", "linear", "constant", "out")
        if kind == "Where"
        else node(kind, "linear", "gate", "out"),
    ]
    numbers = {"zero": 0, "one": 1, "before": SIZE - 1, "end": SIZE, "last": 3}
    constants = {name: np.array([value], np.int64) for name, value in numbers.items()} | {
        "column": np.array([-1, 1], np.int64),
        "limit": np.array([50], np.float32),
        "constant": np.ones((1, 8), np.float32),
        "weights": np.random.default_rng(0).normal(size=(3 * SIZE**2, 8)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


PEOPLE, EACH = 12, 8
IMAGES = PEOPLE * EACH


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with plain images, a network of each kind, and embeddings like its own."""
    root, generator = tmp_path_factory.mktemp("unusable"), np.random.default_rng(0)
    for person in range(PEOPLE):
        folder = root / "photographs" / f"person-{person:02}"
        folder.mkdir(parents=True)
        for image in range(EACH):
            pixels = np.full((SIZE, SIZE, 3), generator.integers(0, 255, 3), np.uint8)
            (folder / f"{image}.jpg").write_bytes(encode_jpeg(pixels))
    datasets = Workspace(root).datasets / "drawn"
    datasets.mkdir(parents=True)
    convert(root / "photographs", datasets / "train.lmdb")
    for kind, value in (("not-finite", np.nan), ("zero", 0), ("constant", 0.5)):
        write_network(root / f"{kind}.onnx", KINDS[kind][0])
        (root / kind).mkdir()
        np.save(root / kind / "train.npy", np.full((IMAGES, 8), value, np.float32))
    return root


COMMANDS = {
    "evaluate": ["evaluate", "{model}", "drawn/train"],
    "evaluate-slices": ["evaluate", "{model}", "drawn/train", "--slices", "quality"],
    "threshold": ["threshold", "{model}", "drawn/train", "--far", "1e-2"],
    "identify": ["identify", "{model}", "drawn/train"],
    "compare": ["compare", "{model}", "{other}", "--on", "drawn/train"],
    "report": ["report", "{model}", "--on", "drawn/train", "--to", "{place}/page.html"],
}
SETTINGS = ["--mean", "0", "--std", "1", "--colour", "RGB", "--size", str(SIZE)]


def refused(place: Path, words: list[str], model: Path) -> str:
    told = [word.format(model=model, place=place) for word in words]
    done = CliRunner().invoke(app, [*told, "--workspace", str(place)])
    assert done.exit_code == 1, done.output
    return str(done.exception)


def words_for(place: Path, command: str, kind: str, ending: str = "") -> list[str]:
    """The words of the command, with another unusable model for a comparison."""
    other = place / f"{'zero' if kind == 'constant' else 'constant'}{ending}"
    return [str(other) if word == "{other}" else word for word in COMMANDS[command]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_network_that_breaks_on_faces_is_refused(place: Path, command: str, kind: str):
    said = KINDS[kind][1].format(row="the network's embedding of image", all=IMAGES)
    words = [*words_for(place, command, kind, ".onnx"), *SETTINGS]
    for _ in range(2):  # the second run finds nothing kept
        told = refused(place, words, place / f"{kind}.onnx")
        assert f"train: {said}; check the network's preprocessing and weights" in told
    assert not (place / "page.html").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_unusable_embeddings_of_a_folder_are_refused(place: Path, command: str, kind: str):
    said = KINDS[kind][1].format(row="row", all=IMAGES)
    told = refused(place, words_for(place, command, kind), place / kind)
    assert f"train.npy, embeddings of train: {said}; write the embeddings again" in told
