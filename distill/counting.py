"""Parameters and operations of a network, in the two conventions of the field.

- MAdds: multiply-additions of convolutions and fully connected layers, as MobileFaceNets counts.
- LFR FLOPs: insightface's counter for the Lightweight Face Recognition challenge 2019 (its
  ``flops_counter.py``), to which the limit of 1 GFLOP refers: ``(2 k^2 C - 1) H W C' / g`` for a
  convolution, ``2 in out - out`` for a fully connected layer; a bias adds the subtracted addition
  back. The division by g includes the subtracted one: with ``2 k^2 C / g - 1`` MobileFaceNet would
  have 438.7 M instead of 439.8 M.

Neither includes activations, normalisation, additions and the products inside attention. The
operators that one forward pass calls are counted, so a network may be written in any way. torch's
``FlopCounterMode`` gives the same MAdds plus the products inside attention, but no LFR FLOPs.
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

    ``params`` includes the parameters of BatchNorm and PReLU, but no running statistics;
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

    Runs one forward pass on the device of the parameters: a module built under
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
    """Count a registered network by name, on the meta device; cached. See `count`."""
    from distill.backbones import create, lookup

    size = input_size or lookup(name).input_size
    with torch.device("meta"):
        return count(create(name, embedding, size, width), size)


class _Operators(TorchDispatchMode):
    """Sums the costs of the operators that are called inside its context."""

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
"""On the meta device these take most of the time, and only the shape of their output matters."""


def _forward_once(module: nn.Module, input_size: tuple[int, int]) -> None:
    """Run one blank image in evaluation mode, and restore the mode of ``module``."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, *input_size, device=device))
    finally:
        module.train(was_training)
