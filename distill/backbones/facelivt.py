"""FaceLiVT: Setyawan et al., FaceLiVT, ICIP 2025; FaceLiVTv2 of the same authors.

Stages of residual blocks at strides 4, 8, 16 and 32: a token mixer, then a pointwise network. The
first two stages mix with a depthwise convolution. The last two mix all positions: with softmax
attention ("_sa"), with linear layers over the positions in groups of channels, or, in v2, with the
convolution and one such layer. These layers depend on the map size, so the input size is fixed.

Layers, defaults and module names are those of the authors' code (novendrastywn/FaceLiVT, whose
``facelivt_s`` and ``facelivt_m`` have the linear layers), so its checkpoints load by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from teachers.networks import Figure, Paper, Size, Status, final_grid, register
from teachers.preprocessing import InputSizeError

SMALLEST_SIDE = 32
MULTIPLE = 16
"""At widths other than 1, channels are multiples of this, as required by the groups of v1."""

Dims = tuple[int, int, int, int]
"""Channels of the four stages."""
Mixer = Callable[[int, int], list[nn.Module]]
"""From channels and positions to the residual layers of a block before its pointwise network"""


class RepConv(nn.Module):
    """A 3x3 and a 1x1 convolution, added and normalised; `teachers.folding` merges them."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, stride, 1, groups=groups)
        self.repconv = nn.Conv2d(channels_in, channels, 1, stride, groups=groups)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.bn(self.conv(x) + self.repconv(x))
        # One merged convolution is faster, and avoids a bug: on the CPU, torch 2.14 writes out of
        # bounds in the gradient of a 1x1 channels-last convolution of 3 channels with stride 2.
        conv, point = self.conv, self.repconv
        assert conv.bias is not None
        assert point.bias is not None
        weight, bias = conv.weight + pad(point.weight, (1, 1, 1, 1)), conv.bias + point.bias
        return self.bn(conv2d(x, weight, bias, conv.stride, 1, groups=conv.groups))


class Residual(nn.Module):
    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


class SoftmaxAttention(nn.Module):
    """Attention [B, C, H, W] to the same shape, without positions; heads have C/2 values."""

    HEADS, QUERY = 6, 32

    def __init__(self, channels: int) -> None:
        super().__init__()
        values = channels // 2
        self.split = (self.QUERY, self.QUERY, values)
        self.qkv_proj = _pointwise(channels, self.HEADS * sum(self.split))
        self.out_proj = _pointwise(self.HEADS * values, channels)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.qkv_proj(x).flatten(2).unflatten(1, (self.HEADS, -1))
        query, key, value = projected.split(self.split, dim=2)
        weights = (query.transpose(-2, -1) @ key * self.QUERY**-0.5).softmax(dim=-1)
        attended = value @ weights.transpose(-2, -1)
        return self.out_proj(attended.flatten(1, 2).unflatten(2, x.shape[2:]))


class LinearAttention(nn.Module):
    """v1's mixing of positions: two fully connected layers over them for each of 16 groups.

    Output channel ``16 c + g`` comes from channel ``c`` of group ``g``, as in the authors' code.
    """

    GROUPS, RATIO = 16, 4

    def __init__(self, channels: int, positions: int) -> None:
        super().__init__()
        hidden = self.RATIO * positions
        self.norm = nn.GroupNorm(1, channels)
        self.linear1 = nn.ModuleList(nn.Linear(positions, hidden) for _ in range(self.GROUPS))
        self.activation = nn.GELU()
        self.linear2 = nn.ModuleList(nn.Linear(hidden, positions) for _ in range(self.GROUPS))

    def forward(self, x: Tensor) -> Tensor:
        groups = self.norm(x).flatten(2).chunk(self.GROUPS, dim=1)
        mixed = [
            self.linear2[g](self.activation(self.linear1[g](groups[g]))) for g in range(self.GROUPS)
        ]
        return torch.stack(mixed, dim=2).reshape(x.shape)


class Affine(nn.Module):
    """A scale and a shift for every channel of [B, C, N], initialised near 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1, channels, 1), 1e-5))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.beta + self.alpha * x


class LiteLinearAttention(nn.Module):
    """v2's mixing of positions: a fully connected layer over them for each of 4 groups, scaled."""

    GROUPS = 4

    def __init__(self, channels: int, positions: int) -> None:
        super().__init__()
        self.norm = Affine(channels)
        self.lin = nn.ModuleList(nn.Linear(positions, positions) for _ in range(self.GROUPS))
        self.ls = nn.Parameter(torch.full((channels, 1, 1), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        groups = self.norm(x.flatten(2)).chunk(self.GROUPS, dim=1)
        mixed = [self.lin[g](groups[g]) for g in range(self.GROUPS)]
        return self.ls * torch.cat(mixed, dim=1).reshape(x.shape)


def by_convolution(channels: int, positions: int) -> list[nn.Module]:
    """The mixer of the first two stages."""
    return [RepConv(channels, channels, groups=channels)]


def by_softmax_attention(channels: int, positions: int) -> list[nn.Module]:
    """The mixer of v1's last two stages, "sa"."""
    return [SoftmaxAttention(channels)]


def by_linear_attention(channels: int, positions: int) -> list[nn.Module]:
    """The mixer of v1's last two stages, "Li"."""
    return [LinearAttention(channels, positions)]


def by_both(channels: int, positions: int) -> list[nn.Module]:
    """The mixer of v2's last two stages."""
    return [*by_convolution(channels, positions), LiteLinearAttention(channels, positions)]


@dataclass(frozen=True)
class Version:
    """The differences of v1 and v2; ``features`` is the width of v2's global depthwise layer."""

    depths: tuple[int, int, int, int]
    expansion: int
    mixer: Mixer
    features: int | None = None


V1 = partial(Version, (2, 4, 6, 2), 3)
V2 = Version((3, 3, 9, 3), 2, by_both, features=1284)


class FaceLiVT(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16, at least 32.

    The total stride is 32, and the last halving rounds up: 7x7 to 4x4.
    """

    after_global = ("head",)

    def __init__(
        self,
        version: Version,
        dims: Dims,
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        grids = _grids(input_size)
        channels = [_scaled(base, width) for base in dims]
        self.patch_embedds = nn.Sequential(
            _stem(channels[0]), *map(_downsampling, channels, channels[1:])
        )
        mixers = [by_convolution, by_convolution, version.mixer, version.mixer]
        self.stages = nn.Sequential(
            *map(partial(_stage, version), channels, version.depths, mixers, grids)
        )
        features = channels[-1]
        self.pre_head: nn.Module = nn.AdaptiveAvgPool2d(1)
        if version.features is not None:
            features = _scaled(version.features, width)
            self.pre_head = nn.Sequential(
                _pointwise(channels[-1], features),
                _conv_norm(nn.Conv2d(features, features, grids[-1], groups=features, bias=False)),
            )
        last = _named(bn=nn.BatchNorm1d(features), l=nn.Linear(features, embedding))
        self.head = _named(classifier=last)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        for stage in range(len(self.stages)):
            x = self.stages[stage](self.patch_embedds[stage](x))
        return self.head(self.pre_head(x).flatten(1))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _stem(channels: int) -> nn.Module:
    first, second = RepConv(3, channels // 2, stride=2), RepConv(channels // 2, channels, stride=2)
    return _named(
        stem=nn.Sequential(nn.Sequential(first, nn.GELU()), nn.Sequential(second, nn.Identity()))
    )


def _downsampling(channels_in: int, channels: int) -> nn.Module:
    return _named(
        spatial=nn.Sequential(
            RepConv(channels_in, channels_in, stride=2, groups=channels_in),
            _pointwise(channels_in, channels),
        ),
        channel=Residual(_pointwise_network(channels, 2)),
    )


def _stage(version: Version, channels: int, depth: int, mixer: Mixer, grid: Size) -> nn.Module:
    def block() -> nn.Module:
        parts = [
            *mixer(channels, grid[0] * grid[1]),
            _pointwise_network(channels, version.expansion),
        ]
        return _named(block=nn.Sequential(*map(Residual, parts)))

    return _named(blocks=nn.Sequential(*[block() for _ in range(depth)]))


def _pointwise_network(channels: int, expansion: int) -> nn.Module:
    """Two pointwise convolutions; the last normalisation starts at 0, so that the block adds 0."""
    hidden = channels * expansion
    last = _pointwise(hidden, channels)
    nn.init.zeros_(last.get_parameter("bn.weight"))
    return _named(pw1=_pointwise(channels, hidden), act=nn.GELU(), pw2=last)


def _pointwise(channels_in: int, channels: int) -> nn.Sequential:
    return _conv_norm(nn.Conv2d(channels_in, channels, 1, bias=False))


def _conv_norm(convolution: nn.Conv2d) -> nn.Sequential:
    return _named(c=convolution, bn=nn.BatchNorm2d(convolution.out_channels))


def _named(**modules: nn.Module) -> nn.Sequential:
    """A sequence of modules with the names in the authors' checkpoints."""
    chain = nn.Sequential()
    for name, module in modules.items():
        chain.add_module(name, module)
    return chain


def _scaled(channels: int, width: float) -> int:
    rounded = max(MULTIPLE, int(channels * width / MULTIPLE + 0.5) * MULTIPLE)
    return channels if width == 1 else rounded


def _grids(input_size: Size) -> list[Size]:
    """The sizes of the maps of the four stages."""
    height, width = final_grid("facelivt", input_size, stride=16)
    if min(input_size) < SMALLEST_SIDE:
        raise InputSizeError(
            f"facelivt: input size {input_size[0]}x{input_size[1]} is too small; "
            f"both sides must be at least {SMALLEST_SIDE}"
        )
    last = -(-height // 2), -(-width // 2)
    return [(4 * height, 4 * width), (2 * height, 2 * width), (height, width), last]


README = "novendrastywn/FaceLiVT, README"
S, M = (40, 80, 160, 320), (64, 128, 256, 512)
MERGED = "Its parameters are counted with the two branches of each convolution merged."


def _in_millions(
    params: str, madds: str, params_within: float | None = 0.02, madds_within: float | None = 0.02
) -> dict[str, Figure]:
    return {
        "params": Figure(f"{params}M", 1e6 * float(params), params_within),
        "madds": Figure(f"{madds}M", 1e6 * float(madds), madds_within),
    }


# name: version, channels, source, printed figures, note
NETWORKS: dict[str, tuple[Version, Dims, str, dict[str, Figure], str]] = {
    "facelivt_s": (
        V1(by_linear_attention), S, f"Setyawan et al., FaceLiVT, 2025 ({README})",
        _in_millions("5.05", "160"), MERGED,
    ),
    "facelivt_m": (
        V1(by_linear_attention), M, f"Setyawan et al., FaceLiVT, 2025 ({README})",
        _in_millions("9.75", "386"), MERGED,
    ),
    "facelivt_s_sa": (
        V1(by_softmax_attention), S, f"Setyawan et al., FaceLiVT, 2025 ({README}, FaceLiVTv1-S)",
        _in_millions("5.89", "237", madds_within=0.06),
        f"{MERGED} Its operations include the products inside attention.",
    ),
    "facelivt_m_sa": (
        V1(by_softmax_attention), M, "Setyawan et al., FaceLiVT, 2025 (its code)", {}, "",
    ),
    "facelivtv2_xs": (
        V2, (32, 64, 128, 256), f"Setyawan et al., FaceLiVTv2 ({README})",
        _in_millions("2.9", "90", params_within=0.04),
        f"{MERGED} The printed number is truncated, not rounded.",
    ),
    "facelivtv2_s": (
        V2, (48, 96, 192, 320), f"Setyawan et al., FaceLiVTv2 ({README})",
        _in_millions("4.62", "179"),
        f"{MERGED} The README prints 384 channels in the last stage; the figures are for 320, as "
        f"in the code.",
    ),
    "facelivtv2_m": (
        V2, (56, 112, 224, 448), f"Setyawan et al., FaceLiVTv2 ({README})",
        _in_millions("7.02", "258"), MERGED,
    ),
    "facelivtv2_l": (
        V2, M, f"Setyawan et al., FaceLiVTv2 ({README})",
        _in_millions("8.52", "309", params_within=None, madds_within=None),
        "The authors' code gives neither of the printed figures; this network follows the code.",
    ),
}  # fmt: skip


def _register(
    name: str, version: Version, dims: Dims, source: str, figures: dict[str, Figure], note: str
) -> None:
    differ = any(figure.within is None for figure in figures.values())
    status: Status = "not reproducible" if differ else "exact"
    paper = Paper(source, figures, note)

    @register(name, family="facelivt", embedding=512, paper=paper, status=status)
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return FaceLiVT(version, dims, embedding, input_size, width)


for _name, _layout in NETWORKS.items():
    _register(_name, *_layout)
