"""Layers of networks written in the operators that every converter knows."""

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ChunkedAttention(nn.Module):
    """timm's ``CrossCovarianceAttn`` with its queries, keys and values cut apart by ``chunk``.

    The original takes ``unbind`` of five dimensions, which ncnn has not. The parameters are shared.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, C] to as many, with attention among the channels."""
        its = self.attention
        batch, tokens, channels = x.shape
        shape = (batch, tokens, its.num_heads, channels // its.num_heads)
        query, key, value = (
            part.reshape(shape).permute(0, 2, 3, 1) for part in its.qkv(x).chunk(3, dim=-1)
        )
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (scores * its.temperature).softmax(dim=-1) @ value
        return its.proj(mixed.permute(0, 3, 1, 2).reshape(batch, tokens, channels))


def for_converters(network: nn.Module) -> nn.Module:
    """The network itself, or a copy in evaluation mode whose layers converters know."""
    from timm.models.edgenext import CrossCovarianceAttn

    found = [n for n, layer in network.named_modules() if isinstance(layer, CrossCovarianceAttn)]
    if not found:
        return network
    written = copy.deepcopy(network).eval()
    for name in found:
        written.set_submodule(name, ChunkedAttention(written.get_submodule(name)))
    return written
