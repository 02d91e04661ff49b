"""ONNX teachers: a matching file is run as declared."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from curation.errors import UserError
from teachers.embedder import embed_mirrored, normalise
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing
from tests.teachers.onnx_models import (
    DIMENSIONS,
    PREPROCESSING,
    SAME,
    WEIGHTS,
    cast_model,
    expected,
    float_model,
    images,
    linear_model,
    save,
)


@pytest.mark.parametrize("batch", ["N", 1, 4], ids=["any batch", "batch 1", "batch 4"])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_embeddings_do_not_depend_on_the_batch_size(tmp_path: Path, batch, count: int):
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


@pytest.mark.parametrize("shape", [("N", 4, 4, 3), (1, 4, 4, 3)], ids=str)
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8", "INT32"])
def test_images_are_given_in_the_graphs_type_and_layout(tmp_path: Path, kind: str, shape: tuple):
    model = cast_model(getattr(TensorProto, kind), shape, SAME, ("N", DIMENSIONS))
    found = OnnxEmbedder(save(tmp_path, model), PREPROCESSING).embed(images(3))
    np.testing.assert_allclose(found, expected(images(3)), rtol=1e-5, atol=1e-2)


def test_signed_bytes_are_given_where_the_mean_makes_such(tmp_path: Path):
    model = cast_model(TensorProto.INT8, ("N", 3, 4, 4), SAME, ("N", DIMENSIONS))
    pixels = Preprocessing(colour="RGB", mean=128, std=1, size=(4, 4))
    found = OnnxEmbedder(save(tmp_path, model), pixels).embed(images(2))
    shifted = (images(2).astype(np.float32) - 128).transpose(0, 3, 1, 2).reshape(2, 48)
    np.testing.assert_allclose(found, shifted @ WEIGHTS, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("last", ("N", 5, 1, 1)), ("zero", (1, "N", 5)), ("first", (1, "N", 1, 1, 5))],
)
def test_further_dimensions_of_length_one_are_removed(tmp_path: Path, axes: str, shape: tuple):
    """[N, D, 1, 1] from a convolution, [1, N, D] from a sequence model."""
    model = float_model([helper.make_node("Unsqueeze", ["fc", axes], ["out"])], shape)
    found = OnnxEmbedder(save(tmp_path, model), PREPROCESSING).embed(images(3))
    np.testing.assert_allclose(found, expected(images(3)), rtol=1e-5, atol=1e-2)


def test_a_graph_that_really_takes_one_image_is_run_so(tmp_path: Path):
    """An exporter has folded the batch size of its example into a Reshape."""
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 5]),
        helper.make_node("Reshape", ["fc", "shape"], ["out"]),
    ]
    embedder = OnnxEmbedder(save(tmp_path, float_model(nodes, ("M", 5))), PREPROCESSING)
    found = embedder.embed(images(3))
    np.testing.assert_allclose(found, expected(images(3)), rtol=1e-5, atol=1e-2)


def test_of_several_outputs_one_is_chosen_by_name(tmp_path: Path):
    model = float_model([*SAME, helper.make_node("Neg", ["fc"], ["other"])])
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ("N", 5)))
    path = save(tmp_path, model)
    with pytest.raises(UserError, match=r"'out' \['N', 5\], 'other' \['N', 5\]; .* output = \"out"):
        OnnxEmbedder(path, PREPROCESSING)
    with pytest.raises(UserError, match=r"no output 'othr'; it has 'out'.*other"):
        OnnxEmbedder(path, PREPROCESSING, "othr")
    chosen = [OnnxEmbedder(path, PREPROCESSING, name) for name in ("out", "other")]
    assert np.array_equal(chosen[0].embed(images(2)), -chosen[1].embed(images(2)))
    assert chosen[0].digest != chosen[1].digest


@pytest.mark.parametrize("name", ["sface", "mobilefacenet_y1_ms1m"])
def test_a_real_teacher_runs(name: str):
    folder = os.environ.get("FACE_DISTILL_REAL_DATA")
    if not folder:
        pytest.skip("FACE_DISTILL_REAL_DATA does not name a folder with real teachers")
    path = Path(folder) / "teacher" / f"{name}.onnx"
    embedder = OnnxEmbedder(path, Preprocessing(colour="RGB", mean=0, std=1))
    batch = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    assert embed_mirrored(embedder, batch).shape == (2, 128)


WIDE = """
import sys
import numpy as np
import psutil
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

def private():
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) >> 20

def most():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10

embedder = OnnxEmbedder(sys.argv[1], Preprocessing(colour="RGB", mean=0, std=1, size=(112, 112)))
images = np.random.default_rng(0).integers(0, 256, (256, 112, 112, 3), dtype=np.uint8)
embedder.embed(images[:1])
before, most_before = private(), most()
embedder.embed(images)
print(private() - before, most() - most_before)
"""


def wide_model() -> onnx.ModelProto:
    """A map of 1.5 MiB per image, and the mean of each channel."""
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, ("N", 3, 112, 112))
    output = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, ("N", 32, 1, 1))
    weights = np.random.default_rng(0).normal(size=(32, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["data", "weights"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["fc1"]),
    ]
    initialisers = [numpy_helper.from_array(weights, "weights")]
    graph = helper.make_graph(nodes, "teacher", [image], [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_many_images_take_the_memory_of_a_few(tmp_path: Path):
    path = save(tmp_path, wide_model())
    command = [sys.executable, "-c", WIDE, str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kept, most = map(int, answer.split())
    assert kept < 100  # onnxruntime keeps its working memory
    assert most < 200  # the map of 256 images has 392


def test_images_have_the_same_embedding_in_any_number(tmp_path: Path):
    embedder = OnnxEmbedder(
        save(tmp_path, wide_model()), Preprocessing(colour="RGB", mean=0, std=1, size=(112, 112))
    )
    batch = np.random.default_rng(2).integers(0, 256, (70, 112, 112, 3), dtype=np.uint8)
    alone = np.concatenate([embedder.embed(image[None]) for image in batch])
    np.testing.assert_array_equal(embedder.embed(batch), alone)
