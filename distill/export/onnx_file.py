"""A network as one ONNX file: float32 ``image`` [N, 3, H, W] to ``embedding`` [N, D], any N.

The exporter's optimiser folds batch normalisation into the convolution or fully connected layer
right before it. One that comes before a padded convolution, as in an iresnet block, stays: the
padding is zero after it, not before.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 20
INPUT_NAME = "image"
OUTPUT_NAME = "embedding"
PARITY_BATCHES = (1, 3)
MINIMUM_COSINE = 0.9999


def write_onnx(path: Path, module: "torch.nn.Module", input_size: tuple[int, int]) -> None:
    """Export ``module`` in evaluation mode to ``path``, atomically, and check its parity.

    Raises `UserError` where onnxruntime's embeddings of random images, in batches of 1 and 3, have
    a cosine below 0.9999 with torch's.
    """
    network = copy.deepcopy(module).cpu().float().eval()
    model = _export(network, input_size)
    content = _without_traces(model).SerializeToString(deterministic=True)
    check_parity(content, network, input_size)
    with atomic_file(path) as file:
        file.write(content)


def check_parity(content: bytes, network: "torch.nn.Module", input_size: tuple[int, int]) -> None:
    """Compare an ONNX file's embeddings with ``network``'s; `UserError` where they differ."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for batch in PARITY_BATCHES:
        images = torch.randn(batch, 3, *input_size, generator=generator)
        with torch.inference_mode():
            expected = network(images).numpy()
        (found,) = session.run([OUTPUT_NAME], {INPUT_NAME: images.numpy()})
        cosine = lowest_cosine(found, expected)
        if not cosine >= MINIMUM_COSINE:
            raise UserError(
                f"the ONNX export gives other embeddings than the network: cosine {cosine:.6f} "
                f"at batch size {batch}, at least {MINIMUM_COSINE} is wanted; "
                "train on until the weights are finite, or take another backbone"
            )


def lowest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """The lowest cosine of two lists of embeddings, row by row; -1 where the shapes differ."""
    if found.shape != expected.shape:
        return -1.0
    left, right = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(np.min(np.sum(left * right, axis=1) / np.maximum(norms, np.finfo(float).tiny)))


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
