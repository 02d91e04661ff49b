"""Shared heads, which map the last feature map of a network to its embedding."""

from torch import Tensor, nn

from teachers.layers import ConvBlock
from teachers.networks import Size

MXNET_EPSILON = 1e-3
"""The default of MXNet's BatchNorm, with which insightface trains its mobile networks"""


class GlobalDepthwiseHead(nn.Module):
    """insightface's output "GDC": [B, C, H, W] to raw embeddings [B, embedding].

    A linear depthwise convolution over the whole map, a fully connected layer with bias, and batch
    normalisation with a fixed scale of 1. Source: ``get_fc1`` in arcface_mxnet's symbol_utils.
    """

    def __init__(self, channels: int, embedding: int, grid: Size) -> None:
        super().__init__()
        self.depthwise = ConvBlock(
            channels, channels, grid, groups=channels, activation=None, epsilon=MXNET_EPSILON
        )
        self.fc = nn.Linear(channels, embedding)
        self.norm = nn.BatchNorm1d(embedding, eps=2e-5)
        self.norm.weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(self.depthwise(x).flatten(1)))


def embedding_layer(features: int, embedding: int) -> nn.Module:
    """From globally pooled features [B, features] to [B, embedding].

    MobileFaceNets' baselines use the features themselves as the embedding, so nothing is added for
    that width. For another width: a fully connected layer without bias, and batch normalisation.
    """
    if features == embedding:
        return nn.Identity()
    return nn.Sequential(nn.Linear(features, embedding, bias=False), nn.BatchNorm1d(embedding))
