"""A replacement for the strided 1x1 convolutions that oneDNN gets wrong on the CPU."""

import torch.nn.functional as F
from torch import Tensor, nn

LEAST_CHANNELS = 16
"""Input channels that fill a block of AVX-512. Narrower layers of stride 1 are not affected."""


class SubsampledConv2d(nn.Conv2d):
    """A strided 1x1 convolution that skips pixels first and then convolves with stride 1."""

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


def subsample_narrow_convolutions(network: nn.Module) -> None:
    """Replace strided 1x1 convolutions of fewer than 16 input channels, in place.

    In channels_last layout, oneDNN's gradient of their weights writes past its workspace: the
    process crashes, hangs, or gets wrong gradients: https://github.com/uxlfoundation/oneDNN/issues/6035.
    Iresnets narrower than a quarter have such layers. Weights and their names stay the same.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_affected(module):
            module.__class__ = SubsampledConv2d


def _is_affected(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (1, 1)
        and max(convolution.stride) > 1
        and convolution.padding in ((0, 0), "valid")
        and convolution.groups == 1
        and convolution.in_channels < LEAST_CHANNELS
    )
