"""Activation checkpointing: activations of a block are recomputed in the backward pass.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016. The second forward pass must not
update the running statistics of batch normalisation again.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from curation.errors import UserError


def checkpoint_activations(network: nn.Module) -> None:
    """Make every block of the network's stages recompute its activations in the backward pass.

    Raises ``UserError`` if the network has no stages.
    """
    found = list(blocks(network))
    if not found:
        raise UserError(
            "train.activation_checkpointing is true but this network has no blocks in sequence; "
            "allowed: false"
        )
    for block in found:
        normalisations = [part for part in block.modules() if isinstance(part, _BatchNorm)]
        contexts = functools.partial(_passes, normalisations)
        block.forward = functools.partial(_forward, block.forward, contexts, block)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Members of ``nn.Sequential`` modules that have layers of their own but no nested stage."""
    for child in network.children():
        inside = isinstance(network, nn.Sequential) and any(child.children())
        if inside and not _is_stage(child):
            yield child
        else:
            yield from blocks(child)


def _is_stage(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and any(
        any(child.children()) for child in module.children()
    )


def _forward(forward: Any, contexts: Any, block: nn.Module, x: Tensor) -> Tensor:
    if not block.training:
        return forward(x)
    return checkpoint(forward, x, use_reentrant=False, context_fn=contexts)


def _passes(
    normalisations: list[_BatchNorm],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the first and the second forward pass."""
    return nullcontext(), _without_new_statistics(normalisations)


@contextmanager
def _without_new_statistics(normalisations: list[_BatchNorm]) -> Iterator[None]:
    kept = [(each.momentum, each.num_batches_tracked) for each in normalisations]
    for each in normalisations:
        each.momentum, each.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for each, (momentum, tracked) in zip(normalisations, kept, strict=True):
            each.momentum, each.num_batches_tracked = momentum, tracked
