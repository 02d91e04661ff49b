"""Meituan's SE-residual network and the steps that led to it.

Chai et al., A Progressive Learning Framework for Unconstrained Face Recognition, 2019, Tables 1
and 2. The network is MobileFaceNet with squeeze-and-excitation on the output of every block, made
narrower in early stages and deeper in late ones, step by step.

Table 1 is step 5. For each "conv" stage, Table 2 prints the channels C at its end, after the block
that halves the map, and the number N of residual blocks; so C is Table 1's c of the next row. Our
interpretation:

- The reduction of squeeze-and-excitation is not printed. 16 on the projected output, without bias,
  gives the printed 976.6 M; 4 exceeds the challenge's 20 MiB.
- Table 1's expanded channels t of step 5 are 2 C of the previous stage, except in the third stage,
  where 116 is 2 x 58, a width of step 3 that step 4 kept. This gives 988.4 M, where the paper
  prints 998.4 M. Steps 1 to 4 are built with the same rule.
- Step 0 repeats the 933.3 M of insightface's y2, which matches that network with 128 channels in
  its last stage and no squeeze-and-excitation. No interpretation gives the printed 18M.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from teachers.layers import ConvBlock, PReLU, SqueezeExcite, initialise_convolutions
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

STRIDE = 16
REDUCTION = 16


@dataclass(frozen=True)
class TableTwoRow:
    """One row of Table 2, with Table 1's columns for each of its four stages.

    ``channels`` and ``hidden`` are those of the residual blocks (c and t), ``downsampling`` is t
    of the block that ends a stage; the last stage has none.
    """

    channels: tuple[int, int, int, int]
    hidden: tuple[int, int, int, int]
    downsampling: tuple[int, int, int]
    repeats: tuple[int, int, int, int]
    embedding: int = 256
    attention: bool = True


STEPS = (
    TableTwoRow(
        (64, 64, 128, 128), (64, 128, 256, 256), (128, 256, 512), (2, 8, 16, 4), attention=False
    ),
    TableTwoRow((30, 62, 128, 256), (62, 124, 256, 256), (124, 256, 512), (2, 8, 18, 16)),
    TableTwoRow((28, 60, 128, 256), (60, 120, 256, 256), (120, 256, 512), (2, 8, 16, 19)),
    TableTwoRow((26, 58, 128, 256), (58, 116, 256, 256), (116, 256, 512), (2, 6, 16, 21)),
    TableTwoRow((24, 56, 124, 256), (56, 116, 248, 256), (116, 248, 512), (2, 6, 16, 23)),
    TableTwoRow(
        (24, 56, 124, 256), (56, 116, 248, 256), (116, 248, 512), (2, 6, 15, 24), embedding=282
    ),
)


class Block(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 (linear), attention; residual at stride 1 (Fig. 2)."""

    def __init__(
        self, channels_in: int, hidden: int, channels: int, stride: int, attention: bool
    ) -> None:
        super().__init__()
        self.expand = ConvBlock(channels_in, hidden)
        self.depthwise = ConvBlock(hidden, hidden, 3, stride, 1, groups=hidden)
        self.project = ConvBlock(hidden, channels, activation=None)
        self.attention = (
            SqueezeExcite(channels, REDUCTION, PReLU, bias=False) if attention else nn.Identity()
        )
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.project(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class SEResidualNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(
        self, step: TableTwoRow, embedding: int, input_size: Size = (112, 112), width: float = 1.0
    ) -> None:
        super().__init__()
        grid = final_grid("meituan", input_size, STRIDE)
        channels, last = scaled(step.channels[0], width), scaled(512, width)
        self.stem = ConvBlock(3, channels, 3, 2, 1)
        self.blocks = _blocks(step, width)
        self.last = ConvBlock(scaled(step.channels[-1], width), last)
        self.global_depthwise = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding = ConvBlock(last, embedding, activation=None)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.blocks(self.stem(x)))
        return self.embedding(self.global_depthwise(x)).flatten(1)


def _blocks(step: TableTwoRow, width: float) -> nn.Sequential:
    channels = [scaled(base, width) for base in step.channels]
    blocks: list[nn.Module] = []
    for stage, (base, repeats) in enumerate(zip(step.hidden, step.repeats, strict=True)):
        if stage > 0:
            hidden = scaled(step.downsampling[stage - 1], width)
            blocks.append(Block(channels[stage - 1], hidden, channels[stage], 2, step.attention))
        blocks += [
            Block(channels[stage], scaled(base, width), channels[stage], 1, step.attention)
            for _ in range(repeats)
        ]
    return nn.Sequential(*blocks)


SOURCE = "Chai et al., A Progressive Learning Framework for Unconstrained Face Recognition, 2019"


PRINTED = (
    # FLOPs and size of each step in Table 2
    (Figure("933.3M", 933.3e6, within=0.0002), Figure("18M", 18.0, within=None)),
    (Figure("1G", 1e9, within=0.08), Figure("18M", 18.0, within=None)),
    (Figure("1G", 1e9, within=0.05), Figure("18M", 18.0, within=0.03)),
    (Figure("1G", 1e9), Figure("19M", 19.0, within=0.03)),
    (Figure("998.4M", 998.4e6), Figure("20M", 20.0, within=0.04)),
    (Figure("976.6M", 976.6e6, within=0.0002), Figure("20M", 20.0, within=0.025)),
)
NOTES = (
    "The printed FLOPs are those of insightface's y2, so this is that shape without "
    "squeeze-and-excitation; the printed size does not fit it.",
    "Expanded channels by the rule of Table 1; the printed size does not fit.",
    "Expanded channels by the rule of Table 1.",
    "Expanded channels by the rule of Table 1.",
    "Expanded channels of step 5; the count is 988.4 M, so the printed 998.4M may be a misprint.",
    "Squeeze-and-excitation with reduction 16 and no bias gives the printed FLOPs.",
)


def _register(number: int) -> None:
    step = STEPS[number]
    is_last = number == len(STEPS) - 1
    flops, size = PRINTED[number]

    @register(
        "meituan" if is_last else f"meituan_step{number}",
        family="meituan",
        embedding=step.embedding,
        paper=Paper(
            f"{SOURCE}, {'Table 1' if is_last else f'Table 2, step {number}'}",
            {"lfr_flops": flops, "size_mib": size},
            NOTES[number],
        ),
        status="inferred",
    )
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return SEResidualNet(step, embedding, input_size, width)


for _number in range(len(STEPS)):
    _register(_number)
