"""Batch normalisation folded into the layer before it, for inference.

In evaluation it is an affine map with fixed numbers, and so is what comes before: one layer can do
both. Source: Jacob et al., Quantization and Training of Neural Networks, 2018, section 3.2, which
MobileFaceNets applies before deploying.
"""

import copy
from typing import TypeAlias

import torch
from torch import Tensor, fx, nn

Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def fold(network: nn.Module) -> nn.Module:
    """A copy of ``network`` in evaluation mode that computes the same with fewer layers.

    Normalisation is folded where a convolution or fully connected layer feeds it and nothing else;
    where it comes first, as in an iresnet block, the zero padding after it forbids that. A network
    that torch.fx cannot trace (its path depends on its data) comes back unfolded.
    """
    unfolded = copy.deepcopy(network).eval()
    tracer = _Tracer()
    try:
        traced = fx.GraphModule(unfolded, tracer.trace(unfolded))
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return unfolded
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    folded = False
    for node in list(traced.graph.nodes):
        norm, before = _module(traced, node), node.args[0] if node.args else None
        if not isinstance(norm, Norm) or not isinstance(before, fx.Node):
            continue
        layer = _module(traced, before)
        if (
            isinstance(layer, nn.Conv2d | nn.Linear)
            and len(before.users) == 1
            and called.count(before.target) == 1
        ):
            _absorb(layer, norm)
            _replace(traced, node, norm, before)
            folded = True
    if not folded:
        return unfolded
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


class _Tracer(fx.Tracer):
    """Keeps every normalisation whole: timm's own kind has the activation inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Norm) or super().is_leaf_module(m, module_qualified_name)


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _absorb(layer: nn.Conv2d | nn.Linear, norm: Norm) -> None:
    """Make ``layer`` give what the affine map of ``norm`` made of its output."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double()
    if layer.bias is not None:
        shift = shift + layer.bias.double()
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    per_output = scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight = _constant(layer.weight.double() * per_output, layer.weight)
    layer.bias = _constant(shift, layer.weight)


def _constant(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().to(like.dtype), requires_grad=False)


def _replace(traced: fx.GraphModule, node: fx.Node, norm: Norm, before: fx.Node) -> None:
    """Drop a normalisation that is absorbed; of timm's kind the activation stays."""
    if isinstance(activation := getattr(norm, "act", None), nn.Module):
        traced.set_submodule(str(node.target), activation)
    else:
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
