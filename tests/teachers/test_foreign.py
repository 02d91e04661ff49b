"""ONNX teachers: a fitting file is run as it says, any other is refused in one line."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from curation.errors import UserError
from teachers.embedder import embed_mirrored, normalise
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(colour="RGB", mean=0, std=1, size=(4, 4))
DIMENSIONS = 5
WEIGHTS = np.random.default_rng(0).normal(size=(48, DIMENSIONS)).astype(np.float32)


def linear_model(
    input_shape: tuple = ("N", 3, 4, 4), inputs: int = 1, flatten: bool = True
) -> onnx.ModelProto:
    """flatten -> MatMul, or the images as they are."""
    values = [
        helper.make_tensor_value_info(f"data{i}", TensorProto.FLOAT, input_shape)
        for i in range(inputs)
    ]
    output_shape = (input_shape[0], DIMENSIONS) if flatten else input_shape
    output = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, output_shape)
    nodes = [helper.make_node("Identity", ["data0"], ["fc1"])]
    if flatten:
        nodes = [
            helper.make_node("Flatten", ["data0"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["fc1"]),
        ]
    initialisers = [numpy_helper.from_array(WEIGHTS, "weights")]
    graph = helper.make_graph(nodes, "teacher", values, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "teacher.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def expected(batch: np.ndarray) -> np.ndarray:
    return batch.transpose(0, 3, 1, 2).reshape(len(batch), 48).astype(np.float32) @ WEIGHTS


@pytest.mark.parametrize("batch", ["N", 1, 4], ids=["any batch", "batch 1", "batch 4"])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_embeddings_are_the_graphs_whatever_its_batch_size(tmp_path: Path, batch, count: int):
    embedder = OnnxEmbedder(save(tmp_path, linear_model((batch, 3, 4, 4))), PREPROCESSING)

    found = embedder.embed(images(count))

    assert embedder.embedding == DIMENSIONS
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(images(count)), rtol=1e-5, atol=1e-2)


def test_the_digest_is_that_of_the_file(tmp_path: Path):
    path = save(tmp_path, linear_model())
    digest = OnnxEmbedder(path, PREPROCESSING).digest
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_mirror_rule_sums_both_sides_and_normalises(tmp_path: Path):
    embedder = OnnxEmbedder(save(tmp_path, linear_model()), PREPROCESSING)
    batch = images(3)
    feature = embed_mirrored(embedder, batch)
    for row, image in zip(feature, batch, strict=True):
        total = expected(image[None])[0] + expected(image[None, :, ::-1])[0]
        np.testing.assert_allclose(row, total / np.sqrt(np.sum(total**2)), rtol=1e-5)


def test_a_zero_embedding_stays_zero():
    assert not normalise(np.zeros((1, 3), np.float32)).any()


def test_weights_in_other_files_are_refused(tmp_path: Path):
    model = linear_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    with pytest.raises(UserError, match=r"teacher\.onnx: its weights lie in other files"):
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)


def test_weights_in_other_files_are_found_inside_nested_graphs(tmp_path: Path):
    model, inner = linear_model(), linear_model().graph
    inner.initializer[0].data_location = TensorProto.EXTERNAL
    node = model.graph.node.add(op_type="If")
    node.attribute.append(helper.make_attribute("then_branch", inner))
    with pytest.raises(UserError, match="external data"):
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            linear_model(("N", 3, 8, 8), flatten=False),
            r"the preprocessing gives tensor\(float\) \[N, 3, 4, 4\]",
        ),
        (linear_model(("N", 1, 4, 4), flatten=False), "input 'data0' is"),
        (linear_model((3, 4, 4), flatten=False), "input 'data0' is"),
        (linear_model(inputs=2), "exactly one, the images"),
        (linear_model(flatten=False), r"an embedder has exactly one, \[N, D\]"),
    ],
    ids=["size", "channels", "rank", "two inputs", "output"],
)
def test_a_graph_that_is_no_embedder_is_refused(
    tmp_path: Path, model: onnx.ModelProto, message: str
):
    with pytest.raises(UserError, match=message):
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            OnnxEmbedder(path, PREPROCESSING)


@pytest.mark.parametrize("kept", [0, 1, 0.3, 0.9, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float):
    whole = linear_model().SerializeToString()
    path = tmp_path / "teacher.onnx"
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"teacher\.onnx: "):
        OnnxEmbedder(path, PREPROCESSING)


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("random") / "teacher.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="teacher"):
        OnnxEmbedder(path, PREPROCESSING)


@pytest.mark.parametrize("name", ["sface", "mobilefacenet_y1_ms1m"])
def test_a_real_teacher_runs(name: str):
    folder = os.environ.get("FACE_DISTILL_REAL_DATA")
    if not folder:
        pytest.skip("FACE_DISTILL_REAL_DATA does not name a folder with real teachers")
    path = Path(folder) / "teacher" / f"{name}.onnx"
    embedder = OnnxEmbedder(path, Preprocessing(colour="RGB", mean=0, std=1))
    batch = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    assert embed_mirrored(embedder, batch).shape == (2, 128)
