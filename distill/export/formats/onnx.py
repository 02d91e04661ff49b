"""A network as one ONNX file: float32 ``image`` [N, 3, H, W] to ``embedding`` [N, D], any N.

Normalisation, parallel branches and shortcuts are folded into the convolutions before that; see
`teachers.folding` for what stays.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.export.exporter import Embed, Exporter, exporter
from teachers.embedder import Embedder
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

if TYPE_CHECKING:
    import onnx
    import torch

MODEL_NAME = "model.onnx"
OPSET = 20
INPUT_NAME = "image"
OUTPUT_NAME = "embedding"


@exporter("onnx")
class OnnxExporter(Exporter):
    """``model.onnx``, by torch's exporter."""

    card = "`model.onnx` is the same network for any ONNX runtime; its output is not normalised."

    def export(self, folder: Path, network: "torch.nn.Module", size: tuple[int, int]) -> None:
        from teachers.folding import fold

        model = _without_traces(_export(fold(network), size))
        (folder / MODEL_NAME).write_bytes(model.SerializeToString(deterministic=True))

    def run(self, folder: Path) -> Embed:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            folder / MODEL_NAME, providers=["CPUExecutionProvider"]
        )

        def run(pixels: np.ndarray) -> np.ndarray:
            (embeddings,) = session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
            return embeddings

        return run

    def embedder(self, folder: Path, preprocessing: Preprocessing) -> Embedder:
        """On the GPU where onnxruntime has one, and only after a trial in a confined process."""
        return OnnxEmbedder(folder / MODEL_NAME, preprocessing)


def _export(network: "torch.nn.Module", input_size: tuple[int, int]) -> "onnx.ModelProto":
    import torch

    # A batch of one would be taken for a constant.
    example = torch.zeros(2, 3, *input_size)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        optimize=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _without_traces(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Drop the exporter's notes: stack traces with this machine's paths, in every node."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    return model
