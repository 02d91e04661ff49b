"""A pretrained MobileFaceNet as a bundle, so that the project's commands can measure it.

Run: python tests/benchmarks/y1_bundle.py FILE.onnx BUNDLE
FILE.onnx is insightface's MobileFaceNet Y1 as exported from MXNet: convolutions, normalisation and
PReLU in the order of the paper, with (pixel - 127.5) / 128 inside. Then, for docs/bundle.md:
distill export BUNDLE --to onnx-int8,ncnn-int8 --calibrate train.lmdb --evaluate test.lmdb
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from distill.backbones.mobilefacenet import MobileFaceNet
from distill.evaluation.thresholds import recommended_thresholds
from distill.export.bundle import export_bundle
from distill.export.config import BundleConfig, FaceConfig
from distill.export.golden import lowest_cosine
from teachers.preprocessing import Preprocessing


@dataclass
class MxnetBlock:
    """A convolution with the layers that follow it."""

    weights: np.ndarray
    bias: np.ndarray | float
    normalisation: list[np.ndarray]
    epsilon: float
    slopes: np.ndarray


def blocks(model: onnx.ModelProto) -> Iterator[MxnetBlock]:
    """The convolutions of the graph in order, including the fully connected layer."""
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    block: MxnetBlock | None = None
    for node in model.graph.node:
        given = [arrays.get(name) for name in node.input]
        if node.op_type in ("Conv", "Gemm"):
            if block is not None:
                yield block
            bias = given[2] if len(given) > 2 and given[2] is not None else 0.0
            block = MxnetBlock(given[1], bias, [], 0.0, np.empty(0))
        elif block is not None and node.op_type == "BatchNormalization":
            block.normalisation = given[1:]
            block.epsilon = next(each.f for each in node.attribute if each.name == "epsilon")
        elif block is not None and node.op_type == "PRelu":
            block.slopes = given[1].reshape(-1)
    if block is not None:
        yield block


def filled(model: onnx.ModelProto) -> nn.Module:
    """Our MobileFaceNet with the weights of the graph."""
    network, source = MobileFaceNet(128).eval(), blocks(model)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                block = next(source)
                layer.weight.copy_(torch.tensor(block.weights).reshape(layer.weight.shape))
            elif isinstance(layer, nn.BatchNorm2d):
                gain, shift, mean, variance = block.normalisation
                layer.weight.copy_(torch.tensor(gain))
                layer.bias.copy_(torch.tensor(shift))
                layer.running_mean.copy_(torch.tensor(mean - block.bias))
                layer.running_var.copy_(torch.tensor(variance + block.epsilon - layer.eps))
            elif isinstance(layer, nn.PReLU):
                layer.weight.copy_(torch.tensor(block.slopes))
    return network


def check_same(network: nn.Module, path: str) -> None:
    """Exit if the embeddings of the network differ from the file's."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 112, 112)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"data": pixels})
    with torch.inference_mode():
        found = network(torch.from_numpy((pixels - 127.5) / 128)).numpy()
    if lowest_cosine(found, expected) < 0.99999:
        sys.exit(f"{path}: not the MobileFaceNet that this script knows")


def main(path: str, destination: str) -> None:
    network = filled(onnx.load(path))
    check_same(network, path)
    face = FaceConfig(
        preprocessing=Preprocessing(colour="RGB", mean=127.5, std=128, size=(112, 112))
    )
    config = BundleConfig(architecture="mobilefacenet", num_features=128, face=face)
    evaluation = {"sets": {}, "thresholds": recommended_thresholds({})}
    export_bundle(Path(destination), network, config, evaluation, {})


if __name__ == "__main__":
    main(*sys.argv[1:])
