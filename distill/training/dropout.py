"""Dropout (Srivastava et al., 2014) before the embedding layer, as in insightface."""

from typing import Any

import torch.nn.functional as F
from torch import nn

from curation.errors import UserError
from teachers.networks import head_modules


def embedding_layer_of(network: nn.Module) -> nn.Module:
    """The first layer with weights after the global operator, which computes the embedding.

    Raises ``UserError`` if there is none because the pooled features are the embedding.
    """
    for head in head_modules(network):
        for module in head.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                return module
    raise UserError(
        "the network has no layer between its pooled features and an embedding of this length, "
        "which are the same; leave dropout out, or give the student another embedding"
    )


def drop_before_embedding(network: nn.Module, share: float) -> None:
    """In training, set a random ``share`` of the embedding layer's inputs to 0 in each step and
    scale up the rest. Weights and evaluation do not change."""

    def dropped(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first, *others = inputs
        return F.dropout(first, share, module.training), *others

    embedding_layer_of(network).register_forward_pre_hook(dropped)
