"""Merging layers for inference: normalisation, parallel branches and shortcuts.

In evaluation, normalisation is a fixed affine map, and so are convolutions and fully connected
layers, so that one layer can do both. Source: Jacob et al., Quantization and Training of Neural
Networks, 2018, section 3.2; MobileFaceNets does this before deployment. Two added convolutions of
the same input are one convolution as well, and so is a convolution plus its own input: Ding et al.,
RepVGG, 2021, section 3.3.
"""

import copy
import operator
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d
ADDITIONS = (operator.add, operator.iadd, torch.add)


def fold(network: nn.Module) -> nn.Module:
    """A copy of ``network`` in evaluation mode that computes the same with fewer layers.

    A layer is folded if nothing else uses it or its output. Normalisation is folded into the layer
    before it, or into a fully connected layer after it; zero padding prevents folding into a
    convolution after it, as in an iresnet block. A network that torch.fx cannot trace (because of
    data-dependent control flow) is returned unfolded.
    """
    unfolded = copy.deepcopy(network).eval()
    tracer = _Tracer()
    try:
        traced = fx.GraphModule(unfolded, tracer.trace(unfolded))
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return unfolded
    passes = (_add_branches, _fold_into_layers_before, _add_shortcuts, _fold_into_linear_after)
    if sum(each(traced) for each in passes) == 0:
        return unfolded
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _add_branches(traced: fx.GraphModule) -> bool:
    """Merge two convolutions of the same input into the one with the larger kernel."""
    found = False
    for node, *branches in _additions(traced):
        first, second = (_only_used_here(traced, branch) for branch in branches)
        if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d):
            continue
        if branches[0].args != branches[1].args or not _are_parallel(first, second):
            continue
        if second.kernel_size > first.kernel_size:
            first, second = second, first
            branches.reverse()
        _add_kernel(first, second.weight, second.bias)
        _drop(traced, node, branches[0])
        traced.graph.erase_node(branches[1])
        found = True
    return found


def _fold_into_layers_before(traced: fx.GraphModule) -> bool:
    found = False
    for node in list(traced.graph.nodes):
        norm, before = _module(traced, node), node.args[0] if node.args else None
        if not isinstance(norm, Norm) or not isinstance(before, fx.Node):
            continue
        layer = _only_used_here(traced, before)
        if isinstance(layer, nn.Conv2d | nn.Linear) and len(layer.weight) == norm.num_features:
            _absorb(layer, norm)
            _replace(traced, node, norm, before)
            found = True
    return found


def _add_shortcuts(traced: fx.GraphModule) -> bool:
    """Merge a shortcut around a convolution into its kernel, if input and output shapes match."""
    found = False
    for node, *parts in _additions(traced):
        for branch, shortcut in (parts, reversed(parts)):
            layer = _only_used_here(traced, branch)
            if (
                isinstance(layer, nn.Conv2d)
                and branch.args == (shortcut,)
                and _keeps_its_shape(layer)
            ):
                same = nn.init.dirac_(torch.empty_like(layer.weight), layer.groups)
                _add_kernel(layer, same, None)
                _drop(traced, node, branch)
                found = True
                break
    return found


def _fold_into_linear_after(traced: fx.GraphModule) -> bool:
    found = False
    for node in list(traced.graph.nodes):
        layer, norm_node = _only_called_here(traced, node), node.args[0] if node.args else None
        if type(layer) is not nn.Linear or not isinstance(norm_node, fx.Node):
            continue
        norm = _only_used_here(traced, norm_node)
        if type(norm) is nn.BatchNorm1d and norm.num_features == layer.in_features:
            _absorb_before(layer, norm)
            _drop(traced, norm_node, *norm_node.all_input_nodes)
            found = True
    return found


class _Tracer(fx.Tracer):
    """Keeps every normalisation as one node: timm's class contains the activation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Norm) or super().is_leaf_module(m, module_qualified_name)


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _only_called_here(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer that a node calls, if no other node calls it."""
    calls = sum(n.op == "call_module" and n.target == node.target for n in traced.graph.nodes)
    return _module(traced, node) if calls == 1 else None


def _only_used_here(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer that a node calls, if its output is used once and no other node calls it."""
    return _only_called_here(traced, node) if len(node.users) == 1 else None


def _additions(traced: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """The nodes that add two others, with these two."""
    for node in list(traced.graph.nodes):
        if node.op == "call_function" and node.target in ADDITIONS and not node.kwargs:
            first, second = node.args
            if isinstance(first, fx.Node) and isinstance(second, fx.Node):
                yield node, first, second


def _are_parallel(first: nn.Conv2d, second: nn.Conv2d) -> bool:
    """Whether two convolutions differ in their kernels only, which share a centre."""

    def nature(layer: nn.Conv2d) -> tuple[Any, ...]:
        margin = layer.kernel_size[0] - 2 * int(layer.padding[0])
        return layer.in_channels, layer.out_channels, layer.groups, layer.stride, margin

    return _is_plain(first) and _is_plain(second) and nature(first) == nature(second)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether a convolution is square, zero-padded and not dilated."""
    if isinstance(layer.padding, str):
        return False
    sides = len(set(layer.kernel_size)) == len(set(layer.padding)) == 1
    return sides and layer.padding_mode == "zeros" and layer.dilation == (1, 1)


def _keeps_its_shape(layer: nn.Conv2d) -> bool:
    same = nn.Conv2d(layer.in_channels, layer.in_channels, 1, groups=layer.groups, device="meta")
    odd = layer.kernel_size[0] % 2 == 1
    return odd and layer.out_channels == layer.in_channels and _are_parallel(layer, same)


def _add_kernel(layer: nn.Conv2d, kernel: Tensor, bias: Tensor | None) -> None:
    """Add another convolution, of the same input and with the same centre, to ``layer``."""
    margin = (layer.kernel_size[0] - kernel.shape[-1]) // 2
    total = layer.weight.double() + F.pad(kernel.double(), 4 * [margin])
    biases = [each.double() for each in (layer.bias, bias) if each is not None]
    layer.weight = _constant(total, layer.weight)
    if biases:
        layer.bias = _constant(torch.stack(biases).sum(0), layer.weight)


def _absorb(layer: nn.Conv2d | nn.Linear, norm: Norm) -> None:
    """Make ``layer`` include the affine map of ``norm`` after it."""
    scale, shift = _affine(norm)
    if layer.bias is not None:
        shift = shift + scale * layer.bias.double()
    per_output = scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight = _constant(layer.weight.double() * per_output, layer.weight)
    layer.bias = _constant(shift, layer.weight)


def _absorb_before(layer: nn.Linear, norm: nn.BatchNorm1d) -> None:
    """Make ``layer`` include the affine map of ``norm`` before it."""
    scale, shift = _affine(norm)
    weight = layer.weight.double()
    shift = weight @ shift
    if layer.bias is not None:
        shift = shift + layer.bias.double()
    layer.weight = _constant(weight * scale, layer.weight)
    layer.bias = _constant(shift, layer.weight)


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """The scale and shift of each channel of ``norm`` in evaluation, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale, shift


def _constant(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().to(like.dtype), requires_grad=False)


def _replace(traced: fx.GraphModule, node: fx.Node, norm: Norm, before: fx.Node) -> None:
    """Remove an absorbed normalisation; timm's class leaves its activation."""
    if isinstance(activation := getattr(norm, "act", None), nn.Module):
        traced.set_submodule(str(node.target), activation)
    else:
        _drop(traced, node, before)


def _drop(traced: fx.GraphModule, node: fx.Node, instead: fx.Node) -> None:
    node.replace_all_uses_with(instead)
    traced.graph.erase_node(node)
