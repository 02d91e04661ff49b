"""Parameters and operations of a network, in the two conventions the field prints.

- MAdds: multiply-additions of convolutions and fully connected layers, as MobileFaceNets counts.
- LFR FLOPs: insightface's counter of the Lightweight Face Recognition challenge 2019 (its
  ``flops_counter.py``), which the limit of 1 GFLOP means: ``(2 k^2 C - 1) H W C' / g`` for a
  convolution, ``2 in out - out`` for a fully connected layer, and the subtracted one is an
  addition that is made after all where the layer has a bias. The division by g takes in the
  subtracted one too: with ``2 k^2 C / g - 1`` MobileFaceNet would have 438.7 M, not 439.8 M.

Both leave out activations, normalisation, additions and the products inside attention.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

BYTES_PER_PARAMETER = 4
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Counts:
    """Sizes of one network at one input size, for one image.

    ``params`` has every parameter, those of BatchNorm and PReLU too, but no running statistics;
    ``size_mib`` is that many float32 numbers in MiB.
    """

    params: int
    madds: int
    lfr_flops: int

    @property
    def size_mib(self) -> float:
        return self.params * BYTES_PER_PARAMETER / MEBIBYTE


def count(module: nn.Module, input_size: tuple[int, int]) -> Counts:
    """Count ``module`` for one RGB image of ``input_size`` (height, width).

    Runs one forward pass with hooks, on the device of the parameters: a module built under
    ``torch.device("meta")`` is counted without arithmetic or memory.
    """
    operations: list[tuple[int, int]] = []
    hooks = [
        layer.register_forward_hook(partial(_record, counter, operations))
        for layer in module.modules()
        if (counter := _counter(layer)) is not None
    ]
    try:
        _forward_once(module, input_size)
    finally:
        for hook in hooks:
            hook.remove()
    return Counts(
        params=sum(parameter.numel() for parameter in module.parameters()),
        madds=sum(madds for madds, _ in operations),
        lfr_flops=sum(flops for _, flops in operations),
    )


def count_network(
    name: str,
    embedding: int | None = None,
    input_size: tuple[int, int] | None = None,
    width: float = 1.0,
) -> Counts:
    """Count a registered network by name, built on the meta device; see `count`."""
    from distill.backbones import create, lookup

    size = input_size or lookup(name).input_size
    with torch.device("meta"):
        return count(create(name, embedding, size, width), size)


Counter = Callable[[nn.Module, Tensor], tuple[int, int]]


def _counter(layer: nn.Module) -> Counter | None:
    if isinstance(layer, nn.Conv2d):
        return _convolution
    if isinstance(layer, nn.Linear):
        return _fully_connected
    return None


def _convolution(layer: nn.Module, output: Tensor) -> tuple[int, int]:
    """(MAdds, LFR FLOPs) of one call of a Conv2d that gave ``output`` [1, C', H, W]."""
    ungrouped = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
    additions_saved = 1 if layer.bias is None else 0
    madds = ungrouped * output.numel() // layer.groups
    return madds, (2 * ungrouped - additions_saved) * output.numel() // layer.groups


def _fully_connected(layer: nn.Module, output: Tensor) -> tuple[int, int]:
    """(MAdds, LFR FLOPs) of one call of a Linear that gave ``output`` [1, ..., out]."""
    madds = layer.in_features * output.numel()
    return madds, 2 * madds - (output.numel() if layer.bias is None else 0)


def _record(
    counter: Counter,
    operations: list[tuple[int, int]],
    layer: nn.Module,
    _inputs: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    operations.append(counter(layer, output))


def _forward_once(module: nn.Module, input_size: tuple[int, int]) -> None:
    """One blank image in evaluation mode; the mode of ``module`` is put back."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, *input_size, device=device))
    finally:
        module.train(was_training)
