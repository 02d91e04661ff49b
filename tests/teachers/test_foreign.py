"""ONNX teachers: a matching file is run as declared, any other is refused in one line."""

import hashlib
import os
import subprocess
import sys
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
    """flatten -> MatMul, or the unchanged images."""
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


def with_weights_in(name: str, **where: object) -> onnx.ModelProto:
    model = linear_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": name, **where}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "", "..", "*/_ORT_MEM_ADDR_/*"])
def test_external_weights_in_another_folder_are_refused(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=r"teacher\.onnx: its weights lie in other files"):
        OnnxEmbedder(save(tmp_path, with_weights_in(name)), PREPROCESSING)


def test_a_link_next_to_the_file_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "weights.data").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"'weights\.data' is not a file beside it"):
        OnnxEmbedder(save(tmp_path, with_weights_in("weights.data")), PREPROCESSING)


@pytest.mark.parametrize("where", [{"offset": 10**9}, {"length": 10**9}, {"offset": "x" * 9}])
def test_external_weights_that_are_too_short_are_refused(tmp_path: Path, where: dict):
    (tmp_path / "weights.data").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(UserError, match=r"too short|not a position"):
        OnnxEmbedder(save(tmp_path, with_weights_in("weights.data", **where)), PREPROCESSING)


def test_external_weights_are_read_and_part_of_the_digest(tmp_path: Path):
    path = save(tmp_path, with_weights_in("weights.data", offset=4))
    digests = set()
    for scale in (1, 2):
        (tmp_path / "weights.data").write_bytes(b"skip" + (WEIGHTS * scale).tobytes())
        embedder = OnnxEmbedder(path, PREPROCESSING)
        digests.add(embedder.digest)
        found = embedder.embed(images(3))
        np.testing.assert_allclose(found, expected(images(3)) * scale, rtol=1e-5, atol=1e-2)
    assert len(digests) == 2


def test_a_name_next_to_the_file_may_begin_with_a_dot(tmp_path: Path):
    (tmp_path / "weights.data").write_bytes(WEIGHTS.tobytes())
    embedder = OnnxEmbedder(save(tmp_path, with_weights_in("./weights.data")), PREPROCESSING)
    np.testing.assert_allclose(embedder.embed(images(2)), expected(images(2)), rtol=1e-5, atol=1e-2)


def test_nested_graphs_take_no_weights_of_other_files(tmp_path: Path):
    model, inner = linear_model(), linear_model().graph
    inner.initializer[0].data_location = TensorProto.EXTERNAL
    node = model.graph.node.add(op_type="If")
    node.attribute.append(helper.make_attribute("then_branch", inner))
    with pytest.raises(UserError, match="control flow"):
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            linear_model(("N", 3, 8, 8), flatten=False),
            r"the preprocessing gives tensor\(float\) \[N, 3, 4, 4\]",
        ),
        (linear_model(("N", 1, 4, 4), flatten=False), "input 'data0' is"),
        (linear_model((3, 4, 4), flatten=False), "input 'data0' is .*; export it .* in a batch"),
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


def cast_model(kind: int, shape: tuple, nodes: list, output_shape: tuple) -> onnx.ModelProto:
    """An input of another type or layout, converted to float NCHW; ``nodes`` after the MatMul."""
    inputs = [helper.make_tensor_value_info("data", kind, shape)]
    order = [0, 3, 1, 2] if shape[3] == 3 else [0, 1, 2, 3]
    body = [
        helper.make_node("Cast", ["data"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=order),
        helper.make_node("Flatten", ["nchw"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["fc"]),
        *nodes,
    ]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, output_shape)
    axes = {"zero": [0], "first": [0, 2, 3], "last": [2, 3]}
    initialisers = [numpy_helper.from_array(WEIGHTS, "weights")]
    initialisers += [
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in axes.items()
    ]
    graph = helper.make_graph(body, "teacher", inputs, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SAME = [helper.make_node("Identity", ["fc"], ["out"])]


def float_model(nodes: list, output_shape: tuple = ("N", 5)) -> onnx.ModelProto:
    return cast_model(TensorProto.FLOAT, ("N", 3, 4, 4), nodes, output_shape)


@pytest.mark.parametrize("shape", [("N", 4, 4, 3), (1, 4, 4, 3)], ids=str)
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8", "INT32"])
def test_images_are_given_in_the_graphs_type_and_layout(tmp_path: Path, kind: str, shape: tuple):
    model = cast_model(getattr(TensorProto, kind), shape, SAME, ("N", DIMENSIONS))
    found = OnnxEmbedder(save(tmp_path, model), PREPROCESSING).embed(images(3))
    np.testing.assert_allclose(found, expected(images(3)), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "mean", "std", "words"),
    [
        ("UINT8", 127.5, 127.5, "integers, .*; give mean = 0, std = 1"),
        ("UINT8", 1.0, 1.0, "mean = 0, std = 1"),
        ("INT8", 0.0, 1.0, "mean = 128, std = 1"),
        ("BOOL", 0.0, 1.0, r"is tensor\(bool\) .* export it with an input of one of tensor"),
    ],
)
def test_an_input_that_the_preprocessing_does_not_fit_is_refused(
    tmp_path: Path, kind: str, mean: float, std: float, words: str
):
    model = cast_model(getattr(TensorProto, kind), ("N", 3, 4, 4), SAME, ("N", DIMENSIONS))
    pixels = Preprocessing(colour="RGB", mean=mean, std=std, size=(4, 4))
    with pytest.raises(UserError, match=words):
        OnnxEmbedder(save(tmp_path, model), pixels)


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


def times(value: float) -> list:
    return [
        helper.make_node("Constant", [], ["factor"], value_floats=[value]),
        helper.make_node("Mul", ["fc", "factor"], ["out"]),
    ]


def enormous() -> onnx.ModelProto:
    """A few bytes that request terabytes."""
    return float_model(
        [
            helper.make_node("Constant", [], ["shape"], value_ints=[10**6, 10**6]),
            helper.make_node("ConstantOfShape", ["shape"], ["large"]),
            helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
            helper.make_node("Add", ["fc", "sum"], ["out"]),
        ]
    )


KERNEL = np.ones((DIMENSIONS, DIMENSIONS, 1, 1), np.float32)


def tiled(*repeats: int) -> onnx.ModelProto:
    """The output is repeated; onnxruntime refuses large ones with a message of its own."""
    constant = helper.make_node("Constant", [], ["repeats"], value_ints=repeats)
    return float_model([constant, helper.make_node("Tile", ["fc", "repeats"], ["out"])])


def overflowing() -> onnx.ModelProto:
    """A padded side of 2^32 pixels."""
    kernel = helper.make_node("Constant", [], ["kernel"], value=numpy_helper.from_array(KERNEL))
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[2, 3])
    planes = helper.make_node("Unsqueeze", ["fc", "axes"], ["planes"])
    conv = helper.make_node("Conv", ["planes", "kernel"], ["wide"], pads=[2**31] * 4)
    mean = helper.make_node("GlobalAveragePool", ["wide"], ["mean"])
    flat = helper.make_node("Flatten", ["mean"], ["out"])
    return float_model([kernel, axes, planes, conv, mean, flat])


def quantised_output() -> onnx.ModelProto:
    model = linear_model()
    scale = [numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.int8(0), "z")]
    model.graph.initializer.extend(scale)
    model.graph.node.append(helper.make_node("QuantizeLinear", ["fc1", "s", "z"], ["out"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.INT8, None))
    return model


def of_another_library() -> onnx.ModelProto:
    model = linear_model()
    model.graph.node.append(helper.make_node("Foo", ["fc1"], ["other"], domain="mine"))
    return model


def many_outputs() -> onnx.ModelProto:
    model = linear_model()
    for name in (f"{i}{'x' * 999}" for i in range(999)):
        model.graph.node.append(helper.make_node("Identity", ["fc1"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def quality_first() -> onnx.ModelProto:
    """Its first output is one number per image."""
    model = linear_model()
    model.graph.node.append(helper.make_node("ReduceMean", ["fc1"], ["quality"], keepdims=1))
    quality = helper.make_tensor_value_info("quality", TensorProto.FLOAT, ("N", 1))
    model.graph.output.insert(0, quality)
    return model


def detector() -> onnx.ModelProto:
    """Its outputs are scores and boxes for each place in the image."""
    model = linear_model((1, 3, 4, 4))
    del model.graph.output[:]
    for name, length in (("scores", 1), ("boxes", DIMENSIONS)):
        model.graph.node.append(helper.make_node("Unsqueeze", ["fc1", "second"], [name]))
        shape = (1, DIMENSIONS, length)
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "second"))
    return model


def classifier() -> onnx.ModelProto:
    model = linear_model()
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["fc1"]))
    return model


def newer(ir_version: int, opset: int) -> onnx.ModelProto:
    model = linear_model()
    model.ir_version, model.opset_import[0].version = ir_version, opset
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (float_model(times(0.0)), "two different images give the same embedding"),
        (float_model(times(float("nan"))), "are not finite"),
        (enormous(), "GiB of memory"),
        (tiled(1, 2**32), "GiB of memory"),
        (tiled(2**62, 2**62), r"cannot load it .operator Tile: Integer overflow"),
        (overflowing(), "the network does not run: operator Conv: "),
        (newer(99, 17), r"written in a newer ONNX \(IR 99, opset 17\) .* pip install -U"),
        (newer(8, 99), r"written in a newer ONNX \(IR 8, opset 99\) .* opset_version=17"),
        (quantised_output(), "output is int8; .* behind DequantizeLinear"),
        (of_another_library(), "onnxruntime cannot load it .*domain"),
        (many_outputs(), r"and 990 more; an embedder has exactly one"),
        (quality_first(), 'such as output = "fc1"'),
        (detector(), "none of these is, so choose another file .detectors"),
        (classifier(), "these are a classifier's probabilities; export the network without"),
    ],
    ids=[
        "constant",
        "nan",
        "enormous",
        "large tile",
        "overflowing tile",
        "overflowing padding",
        "newer IR",
        "newer opset",
        "int8 output",
        "own operator",
        "many outputs",
        "quality first",
        "detector",
        "classifier",
    ],
)
def test_behaviour_unlike_a_face_network_is_reported(
    tmp_path: Path, model: onnx.ModelProto, words: str
):
    with pytest.raises(UserError, match=words) as caught:
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_web_page_is_named_as_such(tmp_path: Path):
    (tmp_path / "teacher.onnx").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(UserError, match=r"a web page .*, not an ONNX file; download it again"):
        OnnxEmbedder(tmp_path / "teacher.onnx", PREPROCESSING)


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
