"""MobileFaceNet and its variants: Chen et al., MobileFaceNets, 2018, Tables 1 and 2.

The second row of Table 1 is a single depthwise convolution without a pointwise one. Batch
normalisation follows every convolution; PReLU follows all but the linear ones (the projection of
a bottleneck, the global depthwise convolution and the embedding).

Table 2 counts parameters after folding batch normalisation and truncates the digits (0.993 M here,
0.928 M without the last layer). No interpretation of Table 1, which has 221 M multiply-additions,
gives the printed 130 M.
"""

from typing import Literal

from torch import Tensor, nn

from distill.backbones.bottleneck import Bottleneck, Row, unrolled
from teachers.layers import Activation, ConvBlock, PReLU, initialise_convolutions, relu
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

BOTTLENECKS: tuple[Row, ...] = (
    # expansion, channels, repeats, stride of the first
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)
BOTTLENECKS_EXPANSION_X2 = (*BOTTLENECKS[:3], (8, 128, 1, 2), *BOTTLENECKS[4:])
SOURCE = "Chen et al., MobileFaceNets, 2018, Table 2"
NOTE = "No reading of the published layers gives the printed MAdds."


class MobileFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16.

    ``ending`` "m" omits the linear 1x1 convolution after the global depthwise one; "s" also omits
    the 1x1 convolution before it, and the layer before that then has ``embedding`` channels.
    """

    after_global = ("embedding",)

    def __init__(
        self,
        embedding: int = 128,
        input_size: Size = (112, 112),
        width: float = 1.0,
        *,
        rows: tuple[Row, ...] = BOTTLENECKS,
        activation: Activation = PReLU,
        ending: Literal["full", "m", "s"] = "full",
    ) -> None:
        super().__init__()
        grid = final_grid("mobilefacenet", input_size, stride=16)
        stem = scaled(64, width)
        channels = embedding if ending == "s" else scaled(rows[-1][1], width)
        last = scaled(512, width) if ending == "full" else embedding
        self.stem = ConvBlock(3, stem, 3, 2, 1, activation=activation)
        self.depthwise = ConvBlock(stem, stem, 3, 1, 1, groups=stem, activation=activation)
        self.bottlenecks = _bottlenecks(rows, stem, channels, width, activation)
        self.last: nn.Module = nn.Identity()
        if ending != "s":
            self.last = ConvBlock(channels, last, activation=activation)
        self.global_depthwise = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding: nn.Module = nn.Identity()
        if ending == "full":
            self.embedding = ConvBlock(last, embedding, activation=None)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bottlenecks(self.depthwise(self.stem(x)))
        return self.embedding(self.global_depthwise(self.last(x))).flatten(1)


def _bottlenecks(
    rows: tuple[Row, ...], channels: int, last: int, width: float, activation: Activation
) -> nn.Sequential:
    """The bottlenecks of all rows, from ``channels``; the final one gives ``last`` channels."""
    plan = list(unrolled(rows))
    widths = [*(scaled(base, width) for _, base, _ in plan[:-1]), last]
    blocks = []
    for (expansion, _, stride), channels_out in zip(plan, widths, strict=True):
        blocks.append(Bottleneck(channels, channels_out, expansion, stride, activation=activation))
        channels = channels_out
    return nn.Sequential(*blocks)


def _paper(params: str, madds: str, note: str = NOTE, within: float = 0.02) -> Paper:
    """The row of Table 2, both numbers in millions as printed."""
    figures = {
        "params": Figure(f"{params}M", float(params) * 1e6, within),
        "madds": Figure(f"{madds}M", float(madds) * 1e6, within=None),
    }
    return Paper(SOURCE, figures, note)


@register("mobilefacenet", family="mobilefacenet", embedding=128, paper=_paper("0.99", "130"))
def mobilefacenet(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The primary MobileFaceNet of the paper."""
    return MobileFaceNet(embedding, input_size, width)


@register(
    "mobilefacenet_112x96",
    family="mobilefacenet",
    embedding=128,
    input_size=(112, 96),
    paper=_paper("0.99", "112"),
)
def mobilefacenet_112x96(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The primary network for images of 112x96; its global convolution is 7x6."""
    return MobileFaceNet(embedding, input_size, width)


@register(
    "mobilefacenet_96x96",
    family="mobilefacenet",
    embedding=128,
    input_size=(96, 96),
    paper=_paper("0.99", "96"),
)
def mobilefacenet_96x96(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The primary network for images of 96x96; its global convolution is 6x6."""
    return MobileFaceNet(embedding, input_size, width)


@register("mobilefacenet_m", family="mobilefacenet", embedding=512, paper=_paper("0.92", "129"))
def mobilefacenet_m(embedding: int, input_size: Size, width: float) -> nn.Module:
    """MobileFaceNet-M: ends in the global depthwise convolution, whose width is the embedding."""
    return MobileFaceNet(embedding, input_size, width, ending="m")


@register("mobilefacenet_s", family="mobilefacenet", embedding=128, paper=_paper("0.84", "126"))
def mobilefacenet_s(embedding: int, input_size: Size, width: float) -> nn.Module:
    """MobileFaceNet-S: -M without the 1x1 convolution before the global depthwise one."""
    return MobileFaceNet(embedding, input_size, width, ending="s")


@register("mobilefacenet_relu", family="mobilefacenet", embedding=128, paper=_paper("0.98", "130"))
def mobilefacenet_relu(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The primary network with ReLU instead of PReLU."""
    return MobileFaceNet(embedding, input_size, width, activation=relu)


@register(
    "mobilefacenet_expansion_x2",
    family="mobilefacenet",
    embedding=128,
    paper=_paper(
        "1.1",
        "140",
        note=f"{NOTE} Which expansions double is not published; all of them would give 1.84 M "
        "parameters, so only that of the last bottleneck of stride 2 does here.",
        within=0.04,
    ),
    status="inferred",
)
def mobilefacenet_expansion_x2(embedding: int, input_size: Size, width: float) -> nn.Module:
    """MobileFaceNet (expansion factor x2), with the second expansion of 4 doubled to 8.

    Among the doublings of whole rows of Table 1, this one is closest to both printed increases:
    1.13 M parameters after folding (1.1 M printed) and 7.4 % more MAdds (130 to 140 M is 7.7 %).
    """
    return MobileFaceNet(embedding, input_size, width, rows=BOTTLENECKS_EXPANSION_X2)


@register(
    "mobilefacenet_512",
    family="mobilefacenet",
    embedding=512,
    paper=Paper("Chen et al., MobileFaceNets, 2018, Table 1", note="The paper embeds in 128."),
)
def mobilefacenet_512(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The primary network with 512-dimensional embeddings, the width of common teachers."""
    return MobileFaceNet(embedding, input_size, width)
