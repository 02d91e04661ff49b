"""Rewrites layers of networks with operators that every converter supports."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChunkedAttention(nn.Module):
    """timm's ``CrossCovarianceAttn`` that splits queries, keys and values with ``chunk``.

    The original uses ``unbind`` on five dimensions, which ncnn lacks. Shares the parameters.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, C] to [B, N, C], with attention among the channels."""
        its = self.attention
        batch, tokens, channels = x.shape
        shape = (batch, tokens, its.num_heads, channels // its.num_heads)
        query, key, value = its.qkv(x).chunk(3, dim=-1)
        query = query.reshape(shape).permute(0, 2, 3, 1)
        key = key.reshape(shape).permute(0, 2, 3, 1)
        value = value.reshape(shape).permute(0, 2, 3, 1)
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (scores * its.temperature).softmax(dim=-1) @ value
        return its.proj(mixed.permute(0, 3, 1, 2).reshape(batch, tokens, channels))


class SplitByWidths(nn.Module):
    """timm's ``SplitTransposeBlock`` that splits channels into parts with explicit widths.

    The original uses ``chunk``, which divides channels differently in ncnn and torch if they are
    not a multiple. Shares the parameters.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block
        self.widths = [conv.in_channels for conv in block.convs]

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, C, H, W]."""
        its, shortcut = self.block, x
        batch, channels, height, width = x.shape
        first, *others = x.split([*self.widths, channels - sum(self.widths)], dim=1)
        done = [its.convs[0](first)]
        for conv, part in zip(its.convs[1:], others, strict=False):
            done.append(conv(done[-1] + part))
        x = torch.cat([*done, others[-1]], 1).reshape(batch, channels, height * width)
        x = x.permute(0, 2, 1)
        if its.pos_embd is not None:
            places = its.pos_embd((batch, height, width)).reshape(batch, channels, -1)
            x = x + places.permute(0, 2, 1)
        x = x + its.gamma_xca * its.xca(its.norm_xca(x))
        x = its.mlp(its.norm(x.reshape(batch, height, width, channels)))
        if its.gamma is not None:
            x = its.gamma * x
        return shortcut + x.permute(0, 3, 1, 2)


class GateByParts(nn.Module):
    """GhostFaceNet's attention, whose gate is enlarged with operators that ncnn has.

    The original uses "nearest-exact", which doubles or, from an odd size, repeats some rows and
    columns. Shares the parameters.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.layers = attention.layers

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to a gate [B, channels, H, W]."""
        gate = self.layers(x)
        # Sizes are constants of an exported graph, not values that it computes.
        sizes = {axis: (int(gate.shape[axis]), int(x.shape[axis])) for axis in (2, 3)}
        if all(size == 2 * own for own, size in sizes.values()):
            return F.interpolate(gate, scale_factor=2.0, mode="nearest")
        for axis, (own, size) in sizes.items():
            parts = gate.split(1, axis)
            gate = torch.cat([parts[(2 * i + 1) * own // (2 * size)] for i in range(size)], axis)
        return gate


def for_converters(network: nn.Module) -> nn.Module:
    """The network itself, or a copy in evaluation mode with layers that converters support."""
    from timm.models.edgenext import CrossCovarianceAttn, SplitTransposeBlock

    from distill.backbones.ghostfacenet import DecoupledAttention

    instead = {
        CrossCovarianceAttn: ChunkedAttention,
        SplitTransposeBlock: SplitByWidths,
        DecoupledAttention: GateByParts,
    }
    written = network
    for kind, ours in instead.items():
        found = [name for name, layer in written.named_modules() if isinstance(layer, kind)]
        if found and written is network:
            written = copy.deepcopy(network).eval()
        for name in found:
            written.set_submodule(name, ours(written.get_submodule(name)))
    return written
