"""What turns the last feature map of a network into its embedding, where families share it."""

from torch import Tensor, nn

from teachers.layers import ConvBlock
from teachers.networks import Size

MXNET_EPSILON = 1e-3
"""The default of MXNet's BatchNorm symbol, which insightface's mobile networks train with."""


class GlobalDepthwiseHead(nn.Module):
    """insightface's output "GDC": [B, C, H, W] to raw embeddings [B, embedding].

    A linear depthwise convolution over the whole map, then a fully connected layer with bias and
    batch normalisation whose scale stays 1. Source: ``get_fc1`` in arcface_mxnet's symbol_utils.
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

    MobileFaceNets' baselines take the features themselves as the embedding, so nothing follows
    them at that length. For another one: fully connected without bias, batch normalisation.
    """
    if features == embedding:
        return nn.Identity()
    return nn.Sequential(nn.Linear(features, embedding, bias=False), nn.BatchNorm1d(embedding))
