"""One ONNX graph from an aligned face to its feature, so that an app needs no preprocessing.

Input ``face``, uint8 RGB [N, H, W, 3]; output ``feature``, float32 [N, D] of unit length. Colour
order, scale, mirror rule and normalisation are operators around the graph of ``model.onnx``, which
processes the upright and the mirrored images as one batch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from distill.export.config import BundleConfig
from distill.export.exported_network import Embed, ExportedNetwork
from distill.export.exporter import CHECKED_BATCHES, check_usable, exporter
from distill.export.formats.onnx import OnnxExporter, onnx_runner, with_names
from distill.export.framing_words import framing_words
from distill.export.golden import FEATURES, golden_cosine, lowest_cosine
from distill.export.metadata import MIRROR
from distill.export.source import INPUT_NAME, OUTPUT_NAME, ExportSource
from teachers.embedder import Embedder, normalise
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing, channels
from teachers.usable import random_images

if TYPE_CHECKING:
    import onnx

FACE, FEATURE = "face", "feature"
UNIT = 1e-4
"""The largest deviation of a feature's length from 1."""


@exporter("onnx-feature")
class OnnxFeatureExporter(OnnxExporter):
    """``model.feature.onnx``."""

    card = (
        "`model.feature.onnx` takes the bytes of an aligned face (`face`, uint8 RGB [N, H, W, 3]) "
        "and gives the feature of unit length (`feature` [N, D]): preprocessing, mirror rule and "
        "normalisation are in the graph."
    )
    file: ClassVar[str] = "model.feature.onnx"
    gives_features = True

    def export(self, folder: Path, source: ExportSource) -> None:
        model = feature_graph(source.onnx, source.preprocessing, source.mirror)
        (folder / self.file).write_bytes(model.SerializeToString(deterministic=True))

    def run(self, folder: Path) -> Embed:
        return onnx_runner(folder / self.file, self.threads(), FACE, FEATURE)

    def embedder(self, folder: Path, preprocessing: Preprocessing) -> Embedder:
        """Runs after a trial in a confined process, like ``model.onnx``."""
        bytes_as_they_are = Preprocessing(colour="RGB", mean=0.0, std=1.0, size=preprocessing.size)
        return with_names(OnnxEmbedder(folder / self.file, bytes_as_they_are), FACE, FEATURE)

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        """Compare the features of random and golden images."""
        run = self.start(written)
        images = random_images(max(CHECKED_BATCHES), source.size)
        expected = _features(source, images)
        for batch in CHECKED_BATCHES:
            found = run(images[:batch])
            cosine = lowest_cosine(found, expected[:batch])
            self.check_cosine(cosine, f"at batch size {batch}")
            assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < UNIT, "not of unit length"
        check_usable(self.name, found)
        network = ExportedNetwork(run, source.preprocessing, gives_features=True)
        self.check_cosine(golden_cosine(bundle, network, FEATURES), "on the golden images")

    def contract(self, config: BundleConfig) -> dict[str, str]:
        face = config.face
        height, width = face.preprocessing.size
        return {
            "input": f"{FACE}: uint8 [N, {height}, {width}, 3], NHWC: an aligned face "
            f"{framing_words(face)}",
            "colour": "RGB",
            "scale": "pixels 0 ... 255 as they are",
            "output": f"{FEATURE}: float32 [N, {config.num_features}], of unit length",
            "normalisation": "done in the graph",
            "mirror": f"{face.mirror}: {MIRROR[face.mirror]}, done in the graph",
        }


def feature_graph(
    model: "onnx.ModelProto", preprocessing: Preprocessing, mirror: str
) -> "onnx.ModelProto":
    """``model``, from `ExportSource.onnx`, with operators before and after it.

    ``mirror`` is the rule of `FaceConfig`.
    """
    import onnx
    from onnx import helper

    whole = onnx.ModelProto.FromString(model.SerializeToString())
    graph = whole.graph
    length = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    before, constants = _before(preprocessing, mirror)
    nodes = [*before, *graph.node, *_behind(mirror)]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    kinds = onnx.TensorProto
    size = ["batch", *preprocessing.size, 3]
    graph.input.append(helper.make_tensor_value_info(FACE, kinds.UINT8, size))
    graph.output.append(helper.make_tensor_value_info(FEATURE, kinds.FLOAT, ["batch", length]))
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _before(
    preprocessing: Preprocessing, mirror: str
) -> tuple[list["onnx.NodeProto"], list["onnx.TensorProto"]]:
    """Operators from ``face`` to the network's input.

    With mirror rule "sum", the batch has the upright and then the mirrored images.
    """
    from onnx import TensorProto, helper, numpy_helper

    values = {
        "face_mean": np.array(channels(preprocessing.mean), np.float32).reshape(3, 1, 1),
        "face_std": np.array(channels(preprocessing.std), np.float32).reshape(3, 1, 1),
    }
    nodes = [helper.make_node("Transpose", [FACE], ["face_planes"], perm=[0, 3, 1, 2])]
    planes = "face_planes"
    if preprocessing.colour == "BGR":
        values["face_bgr"] = np.array([2, 1, 0], np.int64)
        nodes.append(helper.make_node("Gather", [planes, "face_bgr"], ["face_ordered"], axis=1))
        planes = "face_ordered"
    upright = "face_upright" if mirror == "sum" else INPUT_NAME
    nodes += [
        helper.make_node("Cast", [planes], ["face_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["face_float", "face_mean"], ["face_centred"]),
        helper.make_node("Div", ["face_centred", "face_std"], [upright]),
    ]
    if mirror == "sum":
        last_to_first = {"start": -1, "end": np.iinfo(np.int64).min, "axis": 3, "step": -1}
        values |= {f"face_{key}": np.array([each]) for key, each in last_to_first.items()}
        cut = [upright, *(f"face_{key}" for key in last_to_first)]
        nodes += [
            helper.make_node("Slice", cut, ["face_mirrored"]),
            helper.make_node("Concat", [upright, "face_mirrored"], [INPUT_NAME], axis=0),
        ]
    return nodes, [numpy_helper.from_array(each, name) for name, each in values.items()]


def _behind(mirror: str) -> list["onnx.NodeProto"]:
    """Operators from the embeddings to ``feature``."""
    from onnx import helper

    nodes, summed = [], OUTPUT_NAME
    if mirror == "sum":
        halves = ["embedding_upright", "embedding_mirrored"]
        summed = "embedding_sum"
        nodes += [
            helper.make_node("Split", [OUTPUT_NAME], halves, axis=0, num_outputs=2),
            helper.make_node("Add", halves, [summed]),
        ]
    return [*nodes, helper.make_node("LpNormalization", [summed], [FEATURE], axis=1, p=2)]


def _features(source: ExportSource, images: np.ndarray) -> np.ndarray:
    """Unit features [N, D] of uint8 RGB [N, H, W, 3], from the network itself."""
    import torch

    pixels = torch.from_numpy(source.preprocessing(images))
    with torch.inference_mode():
        embeddings = source.network(pixels)
        if source.mirror == "sum":
            embeddings = embeddings + source.network(pixels.flip(3))
    return normalise(embeddings.numpy())
