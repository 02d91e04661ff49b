"""ONNX teachers with weights in other files."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from curation.errors import UserError
from teachers.foreign import OnnxEmbedder
from tests.teachers.onnx_models import PREPROCESSING, WEIGHTS, expected, images, linear_model, save


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
