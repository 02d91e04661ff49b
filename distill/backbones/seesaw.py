"""SeesawFaceNets: Zhang, SeesawFaceNets, 2019, Tables 1, 2 and 6.

MobileFaceNet's layout with pointwise convolutions in two uneven groups: a quarter and three
quarters of the channels. Information crosses the groups by a channel shuffle before the depthwise
convolution ("shuffle") or, without moving data, by splitting the projection in the reverse order
("share"). Every block has squeeze-and-excitation (reduction 4) after the depthwise convolution.
Swish follows every convolution except the linear ones (projection, global depthwise, embedding).

Where text, tables and code (cvtower/seesawfacenet_pytorch) disagree, the printed counts decide:

- The text adds a nonlinearity after the projection; the tables and the code have none.
- Table 6 expands the first block of the deeper networks to 128 channels, the code to 192. Only 192
  gives the printed 514 M.
- In the text, DW-SeesawFaceNet V1 has no branch around its downsampling blocks, and only then has
  it 514 M. The code has a 1x1 convolution of stride 2 there, which would give V2's 526 M.

The code normalises the embedding; here it is raw.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from teachers.layers import Concatenate, ConvBlock, PReLU, SqueezeExcite, swish
from teachers.networks import Figure, Paper, Size, Status, final_grid, register, scaled

SOURCE = "Zhang, SeesawFaceNets, 2019"
SQUEEZE_REDUCTION = 4

Blocks = tuple[tuple[int, int, int, int], ...]
# hidden channels, channels, repeats, stride of the first
FACE: Blocks = (
    (128, 64, 5, 2),
    (256, 128, 1, 2),
    (256, 128, 6, 1),
    (512, 128, 1, 2),
    (256, 128, 2, 1),
)
MOBI: Blocks = (
    (128, 64, 3, 2),
    (256, 128, 1, 2),
    (256, 128, 3, 1),
    (512, 128, 1, 2),
    (256, 128, 6, 1),
)
DEEPER_WIDER: Blocks = (
    (192, 96, 9, 2),
    (384, 192, 1, 2),
    (384, 192, 12, 1),
    (768, 192, 1, 2),
    (384, 192, 4, 1),
)

Groups = Callable[[int], tuple[int, ...]]
"""From a number of channels to the sizes of the pieces that the two groups take alternately"""


def quarter_first(channels: int) -> tuple[int, ...]:
    """The plain split, 1/4 and 3/4."""
    return channels // 4, channels - channels // 4


def quarter_last(channels: int) -> tuple[int, ...]:
    """3/4 and 1/4: the first group takes channels from both groups of the expansion."""
    return channels - channels // 4, channels // 4


def shuffled(channels: int) -> tuple[int, ...]:
    """1/4 and 3/4 of the channels after a shuffle that interleaves both halves.

    The first quarter then holds the first eighth of all channels and the first eighth of the second
    half. The layers between shuffle and split treat channels either separately or all together, so
    selecting these pieces equals the shuffle except for the order of channels within the block. The
    published shuffle moves all data once more.
    """
    eighth, half = channels // 8, channels // 2
    return eighth, half - eighth, eighth, half - eighth


@dataclass(frozen=True)
class SeesawLayout:
    """The parameters of a SeesawFaceNet.

    ``crossing`` splits the channels before the projection. ``mapping`` is a branch around each
    downsampling block: 2x2 max pooling, then a 1x1 convolution.
    """

    stem: int
    blocks: Blocks
    crossing: Groups = shuffled
    mapping: bool = False


class UnevenPointwise(nn.Module):
    """Linear 1x1 convolution in two groups of channels, one three times as large as the other.

    [B, C, H, W] to [B, channels, H, W]. Each group has its own normalisation, which equals one over
    all channels and can be folded into its convolution.
    """

    def __init__(self, channels_in: int, channels: int, groups: Groups = quarter_first) -> None:
        super().__init__()
        self.pieces = groups(channels_in)
        given = sum(self.pieces[::2])
        made = channels * given // channels_in
        self.first = ConvBlock(given, made, activation=None)
        self.second = ConvBlock(channels_in - given, channels - made, activation=None)
        self.concatenate = Concatenate()

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.split(self.pieces, 1)
        first, second = pieces[0], pieces[1]
        if len(self.pieces) == 4:
            first = torch.cat([first, pieces[2]], 1)
            second = torch.cat([second, pieces[3]], 1)
        return self.concatenate(self.first(first), self.second(second))


class SeesawBlock(nn.Module):
    """Expand, depthwise 3x3, squeeze and excite, project; both pointwise convolutions are uneven.

    The input is added if the shape does not change. In a downsampling block, ``mapping`` adds the
    input after 2x2 max pooling and a 1x1 convolution (DW-SeesawFaceNet V2).
    """

    def __init__(
        self, channels_in: int, hidden: int, channels: int, stride: int, layout: SeesawLayout
    ) -> None:
        super().__init__()
        self.expand = UnevenPointwise(channels_in, hidden)
        self.activation = swish(hidden)
        self.depthwise = ConvBlock(hidden, hidden, 3, stride, 1, groups=hidden, activation=swish)
        self.attention = SqueezeExcite(hidden, SQUEEZE_REDUCTION, PReLU)
        self.project = UnevenPointwise(hidden, channels, layout.crossing)
        self.shortcut: nn.Module | None = None
        if stride == 1 and channels_in == channels:
            self.shortcut = nn.Identity()
        elif layout.mapping:
            self.shortcut = nn.Sequential(
                nn.MaxPool2d(2), ConvBlock(channels_in, channels, activation=swish)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.activation(self.expand(x)))
        y = self.project(self.attention(y))
        return y if self.shortcut is None else self.shortcut(x) + y


class SeesawFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(
        self,
        layout: SeesawLayout,
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        grid = final_grid("seesaw", input_size, stride=16)
        channels, last = scaled(layout.stem, width), scaled(512, width)
        self.stem = ConvBlock(3, channels, 3, 2, 1, activation=swish)
        self.depthwise = ConvBlock(channels, channels, 3, 1, 1, channels, activation=swish)
        blocks = []
        for hidden, base, repeats, first_stride in layout.blocks:
            for index in range(repeats):
                made, stride = scaled(base, width), first_stride if index == 0 else 1
                blocks.append(SeesawBlock(channels, scaled(hidden, width), made, stride, layout))
                channels = made
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvBlock(channels, last, activation=swish)
        self.global_depthwise = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding = ConvBlock(last, embedding, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.depthwise(self.stem(x)))
        return self.embedding(self.global_depthwise(self.last(x))).flatten(1)


def _register(name: str, layout: SeesawLayout, paper: Paper, status: Status = "exact") -> None:
    @register(name, family="seesaw", embedding=512, paper=paper, status=status)
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return SeesawFaceNet(layout, embedding, input_size, width)


# The paper truncates parameters after the first decimal: 1.37 M is its 1.3M, 4.18 M its 4.1M.
_FACE = Paper(
    f"{SOURCE}, Table 1",
    {"params": Figure("1.3M", 1.3e6, within=0.06), "madds": Figure("146M", 146e6)},
)
_register("seesaw_share", SeesawLayout(64, FACE, quarter_last), _FACE)
_register("seesaw_shuffle", SeesawLayout(64, FACE), _FACE)
_register(
    "seesaw_mobi",
    SeesawLayout(64, MOBI),
    Paper(
        f"{SOURCE}, Table 2",
        {"params": Figure("2.8M", 2.8e6, within=None), "madds": Figure("154M", 154e6, within=None)},
        "The layers of its table have half the parameters that are printed for it.",
    ),
    "not reproducible",
)
_register(
    "dw_seesaw_v1",
    SeesawLayout(96, DEEPER_WIDER),
    Paper(
        f"{SOURCE}, Table 6",
        {"params": Figure("4.1M", 4.1e6), "madds": Figure("514M", 514e6)},
        "First block expanded to 192 channels as in the code; the table's 128 gives 498 M.",
    ),
)
_register(
    "dw_seesaw_v2",
    SeesawLayout(96, DEEPER_WIDER, mapping=True),
    Paper(
        f"{SOURCE}, Table 6",
        {"params": Figure("4.2M", 4.2e6), "madds": Figure("526M", 526e6)},
        "V1 with a branch around its downsampling blocks.",
    ),
)
