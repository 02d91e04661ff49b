"""Parameters and operations of a network, in the two conventions the field prints.

- MAdds: multiply-additions of convolutions and fully connected layers, as MobileFaceNets counts.
- LFR FLOPs: insightface's counter of the Lightweight Face Recognition challenge 2019 (its
  ``flops_counter.py``), which the limit of 1 GFLOP means: ``(2 k^2 C - 1) H W C' / g`` for a
  convolution, ``2 in out - out`` for a fully connected layer, and the subtracted one is an
  addition that is made after all where the layer has a bias. The division by g takes in the
  subtracted one too: with ``2 k^2 C / g - 1`` MobileFaceNet would have 438.7 M, not 439.8 M.

Both leave out activations, normalisation, additions and the products inside attention. Counted are
the operators that one forward pass really calls, so a network may be written in any way. torch's
``FlopCounterMode`` has the same MAdds, with the products inside attention; it has no LFR FLOPs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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

    Runs one forward pass, on the device of the parameters: a module built under
    ``torch.device("meta")`` is counted without arithmetic or memory.
    """
    with _Operators() as operators:
        _forward_once(module, input_size)
    return Counts(
        params=sum(parameter.numel() for parameter in module.parameters()),
        madds=operators.madds,
        lfr_flops=operators.lfr_flops,
    )


@cache
def count_network(
    name: str,
    embedding: int | None = None,
    input_size: tuple[int, int] | None = None,
    width: float = 1.0,
) -> Counts:
    """Count a registered network by name, on the meta device, and remember it; see `count`."""
    from distill.backbones import create, lookup

    size = input_size or lookup(name).input_size
    with torch.device("meta"):
        return count(create(name, embedding, size, width), size)


class _Operators(TorchDispatchMode):
    """Adds up the operators that are called while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.madds = 0
        self.lfr_flops = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operator.overloadpacket in SHAPE_KEEPING and args[0].is_meta:
            return SHAPE_KEEPING[operator.overloadpacket](args[0])
        output = operator(*args, **(kwargs or {}))
        if operator.overloadpacket in COUNTERS:
            madds, flops = COUNTERS[operator.overloadpacket](output, *args)
            self.madds += madds
            self.lfr_flops += flops
        return output


def _convolution(
    output: Tensor, image: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any
) -> tuple[int, int]:
    """(MAdds, LFR FLOPs) of ``output`` [1, C', H, W] by ``weight`` [C', C / groups, k, k]."""
    groups = image.shape[1] // weight.shape[1]
    ungrouped = groups * weight[0].numel()
    additions_saved = 1 if bias is None else 0
    madds = ungrouped * output.numel() // groups
    return madds, (2 * ungrouped - additions_saved) * output.numel() // groups


def _product(output: Tensor, left: Tensor, right: Tensor) -> tuple[int, int]:
    """A fully connected layer without bias, [rows, in] by [in, out]."""
    madds = left.shape[1] * output.numel()
    return madds, 2 * madds - output.numel()


def _product_with_bias(
    output: Tensor, bias: Tensor, left: Tensor, right: Tensor
) -> tuple[int, int]:
    madds = left.shape[1] * output.numel()
    return madds, 2 * madds


COUNTERS: dict[Any, Callable[..., tuple[int, int]]] = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.mm: _product,
    torch.ops.aten.addmm: _product_with_bias,
}


SHAPE_KEEPING: dict[Any, Callable[[Tensor], Any]] = {
    torch.ops.aten.native_batch_norm: lambda x: (torch.empty_like(x), x, x),
    torch.ops.aten._prelu_kernel: torch.empty_like,
    torch.ops.aten.relu: torch.empty_like,
}
"""On the meta device these take most of the time, and nothing but their output's shape is used."""


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
