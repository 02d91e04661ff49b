"""Any timm model as a student: ``timm/NAME`` with random weights, ``timm-pretrained/NAME`` with
timm's own.

Two changes adapt it to face recognition:

- The stem. If timm built a network for images at least twice as large as ours (224 against 112),
  the stride of its first strided convolution is halved, so that its maps keep their intended size.
  Patch embeddings (equal kernel and stride) are unchanged. Networks with a fixed input size are
  built for our size instead.
- The head. A convolutional feature map is mapped to the embedding by a global depthwise
  convolution; a network that ends in tokens keeps its pooling, followed by a fully connected layer.
  Both end in batch normalisation.

Pretrained weights are read from the local Hugging Face cache, never downloaded.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import UserError
from distill.backbones.heads import GlobalDepthwiseHead
from distill.timm_names import FAMILY, PRETRAINED_FAMILY, check_timm
from teachers.networks import Size, register_named_family
from teachers.preprocessing import InputSizeError

WEIGHTS_NAME = "model.safetensors"


class TimmBackbone(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; ``weights`` is a file from timm."""

    after_global = ("head",)

    def __init__(
        self, name: str, embedding: int, input_size: Size, weights: Path | None = None
    ) -> None:
        super().__init__()
        self.network = _headless(name, input_size, weights)
        channels, *grid = _shape(self.network, input_size)
        self.head: nn.Module
        if grid:
            self.head = GlobalDepthwiseHead(channels, embedding, (grid[0], grid[1]))
        else:
            self.head = nn.Sequential(
                nn.Linear(channels, embedding, bias=False), nn.BatchNorm1d(embedding)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.network(x))


def _headless(name: str, input_size: Size, weights: Path | None) -> nn.Module:
    """timm's network without its classifier: feature maps [B, C, h, w] or features [B, C]."""
    import timm

    settings = timm.get_pretrained_cfg(name)
    any_size = settings is None or not settings.fixed_input_size
    network = timm.create_model(
        name,
        pretrained=weights is not None,
        pretrained_cfg_overlay={"file": str(weights)} if weights else None,
        num_classes=0,
        **({} if any_size else {"img_size": input_size}),
    )
    if any_size and settings is not None and settings.input_size[1] >= 2 * min(input_size):
        _halve_first_stride(network)
    if _ends_in_a_map(network, input_size):
        network.reset_classifier(0, "")
    return network


def _halve_first_stride(network: nn.Module) -> None:
    """Halve the stride of the first strided convolution, unless it is a patch embedding.

    Stems with parallel branches have several of the same shape.
    """
    strided = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1
    ]
    if not strided or strided[0].kernel_size == strided[0].stride:
        return
    shape, stride = _channels(strided[0]), strided[0].stride
    for layer in strided:
        if (_channels(layer), layer.stride) == (shape, stride):
            layer.stride = (stride[0] // 2, stride[1] // 2)


def _channels(layer: nn.Conv2d) -> tuple[int, int]:
    return layer.in_channels, layer.out_channels


def _ends_in_a_map(network: nn.Module, input_size: Size) -> bool:
    """Whether the features are a map [B, C, h, w], not tokens or channels-last maps."""
    shape = _shape(network, input_size, "forward_features")
    return len(shape) == 3 and shape[0] == network.num_features


@torch.no_grad()
def _shape(network: Any, input_size: Size, method: str = "forward") -> list[int]:
    """The shape of the result of ``method``, determined with one blank image."""
    device = next(network.parameters()).device
    was_training = network.training
    try:
        features = getattr(network.eval(), method)(torch.zeros(1, 3, *input_size, device=device))
    except (RuntimeError, AssertionError) as error:
        raise InputSizeError(
            f"timm's {network.pretrained_cfg['architecture']} does not take images of "
            f"{input_size[0]}x{input_size[1]} ({str(error).splitlines()[0]}); "
            "choose another input size or another backbone"
        ) from error
    network.train(was_training)
    return list(features.shape[1:]) if isinstance(features, Tensor) else []


@register_named_family(FAMILY)
def timm_backbone(name: str, embedding: int, input_size: Size, width: float) -> nn.Module:
    """``timm/NAME``; ``width`` must be 1.0, because timm's networks define their own widths."""
    _check(FAMILY, name, width)
    return TimmBackbone(name, embedding, input_size)


@register_named_family(PRETRAINED_FAMILY)
def pretrained_timm_backbone(
    name: str, embedding: int, input_size: Size, width: float
) -> nn.Module:
    """``timm-pretrained/NAME``: like ``timm/NAME``, starting from timm's weights.

    The weights must be in the local Hugging Face cache. On the meta device this is checked, and
    nothing is read.
    """
    _check(PRETRAINED_FAMILY, name, width)
    weights = _local_weights(name)
    on_meta = torch.get_default_device().type == "meta"
    return TimmBackbone(name, embedding, input_size, None if on_meta else weights)


def _check(family: str, name: str, width: float) -> None:
    check_timm(f"{family}/{name}")
    if width != 1.0:
        raise UserError(f"backbone '{family}/{name}' takes no width (got {width}); leave it out")


def _local_weights(name: str) -> Path:
    """timm's weights of ``name`` in the Hugging Face cache; ``UserError`` if they are missing."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    settings = timm.get_pretrained_cfg(name)
    if settings is None or not settings.hf_hub_id:
        raise UserError(
            f"backbone '{PRETRAINED_FAMILY}/{name}': timm has no weights for it on the "
            f"Hugging Face hub; train it from random ones as '{FAMILY}/{name}'"
        )
    found = try_to_load_from_cache(settings.hf_hub_id, WEIGHTS_NAME)
    if not isinstance(found, str):
        raise UserError(
            f"backbone '{PRETRAINED_FAMILY}/{name}': its weights are not in the local Hugging Face "
            f"cache; fetch them with `hf download {settings.hf_hub_id} {WEIGHTS_NAME}`"
        )
    return Path(found)
