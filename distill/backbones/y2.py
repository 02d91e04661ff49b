"""Y2, insightface's longer MobileFaceNet, and Bitmain's variants of it.

``y2`` is the baseline of the Lightweight Face Recognition challenge 2019: arcface_mxnet's
fmobilefacenet with ``net_blocks = [2, 8, 16, 4]`` and 256-dimensional embeddings. Residual
bottlenecks replace the second row of MobileFaceNet's table, the single depthwise convolution.

Bitmain (Ma, 2019, Table 1) prints four ratios per network, one per resolution. Interpreted as
ratios of block counts they do not give its sizes. Interpreted as ratios of operations they do, with
the block counts below and 32 channels at 56x56 where insightface has 64. Both are inferred from the
printed sizes and operations.
"""

from functools import partial

from torch import Tensor, nn

from distill.backbones.bottleneck import Bottleneck
from distill.backbones.heads import MXNET_EPSILON, GlobalDepthwiseHead
from teachers.layers import ConvBlock, initialise_convolutions
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

BlocksPerStage = tuple[int, int, int, int]
BINARY_MEGA = 2**20


class Y2(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16.

    ``blocks`` are the residual bottlenecks at 1/2, 1/4, 1/8 and 1/16 of the input size; ``first``
    is the number of channels at 1/2.
    """

    after_global = ("head.fc", "head.norm")

    def __init__(
        self, blocks: BlocksPerStage, first: int, embedding: int, input_size: Size, width: float
    ) -> None:
        super().__init__()
        grid = final_grid("y2", input_size, stride=16)
        channels = [scaled(base, width) for base in (first, 64, 128, 128)]
        last = scaled(512, width)
        self.stem = ConvBlock(3, channels[0], 3, 2, 1, epsilon=MXNET_EPSILON)
        self.stage1 = _residuals(channels[0], 1, blocks[0])
        self.stage2 = _stage(channels[0], channels[1], 2, blocks[1])
        self.stage3 = _stage(channels[1], channels[2], 4, blocks[2])
        self.stage4 = _stage(channels[2], channels[3], 4, blocks[3])
        self.last = ConvBlock(channels[3], last, epsilon=MXNET_EPSILON)
        self.head = GlobalDepthwiseHead(last, embedding, grid)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        return self.head(self.last(x))


MxnetBottleneck = partial(Bottleneck, epsilon=MXNET_EPSILON)


def _residuals(channels: int, expansion: int, count: int) -> nn.Sequential:
    """``count`` bottlenecks that preserve the shape."""
    blocks = [MxnetBottleneck(channels, channels, expansion, stride=1) for _ in range(count)]
    return nn.Sequential(*blocks)


def _stage(channels_in: int, channels: int, expansion: int, count: int) -> nn.Sequential:
    """A bottleneck of stride 2, then ``count`` residual ones of expansion 2."""
    halving = MxnetBottleneck(channels_in, channels, expansion, stride=2)
    return nn.Sequential(halving, *_residuals(channels, 2, count))


@register(
    "y2",
    family="y2",
    embedding=256,
    paper=Paper(
        "insightface, Lightweight Face Recognition challenge 2019, README",
        {"lfr_flops": Figure("933M", 933e6, within=0.001)},
    ),
)
def y2(embedding: int, input_size: Size, width: float) -> nn.Module:
    """insightface's Y2: 64 channels at 56x56."""
    return Y2((2, 8, 16, 4), 64, embedding, input_size, width)


BITMAIN = (
    # name, residual blocks at 56x56, 28x28, 14x14 and 7x7, MB, M FLOPs (Bitmain, Table 2)
    ("bitmain_y2", (2, 8, 16, 4), "7.5", "768"),
    ("bitmain_yoa", (3, 9, 22, 8), "11", "985"),
    ("bitmain_yob", (3, 4, 24, 24), "16", "993"),
    ("bitmain_yoc", (4, 14, 14, 10), "9.1", "939"),
    ("bitmain_yod", (2, 4, 24, 24), "15", "992"),
    ("bitmain_yoe", (2, 4, 15, 45), "19", "898"),
)


def _register_bitmain(name: str, blocks: BlocksPerStage, megabytes: str, flops: str) -> None:
    paper = Paper(
        "Ma, Effective methods for lightweight image-based and video-based face recognition, "
        "2019, Table 2",
        {
            "size_mib": Figure(f"{megabytes}MB", float(megabytes), within=0.09),
            "lfr_flops": Figure(f"{flops}M", float(flops) * BINARY_MEGA, within=0.012),
        },
        note="The numbers of blocks and the 32 channels at 56x56 are inferred from the printed "
        "FLOPs, which count in 2^20; the sizes then come out up to 8 % below the printed ones.",
    )

    @register(name, family="y2", embedding=256, paper=paper, status="inferred")
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return Y2(blocks, 32, embedding, input_size, width)


for _row in BITMAIN:
    _register_bitmain(*_row)
