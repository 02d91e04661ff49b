"""EdgeFace: George et al., EdgeFace: Efficient Face Recognition Model for Edge Devices, 2023.

timm's EdgeNeXt with a linear layer as its classifier. In the S and XS networks every fully
connected layer, including the last, is replaced by two low-rank ones; the rank is ``gamma`` times
the smaller dimension. Module names are those of the authors' code (otroshi/edgeface), so its
checkpoints load by name.
"""

from torch import Tensor, nn

from teachers.networks import Figure, Paper, Size, final_grid, register, scaled
from teachers.preprocessing import InputSizeError

SMALLEST_SIDE = 32
SOURCE = "George et al., EdgeFace, 2023"


class LowRankLinear(nn.Module):
    """A fully connected layer whose weight is a product of two matrices of low rank."""

    def __init__(self, features_in: int, features: int, gamma: float) -> None:
        super().__init__()
        rank = max(2, int(min(features_in, features) * gamma))
        self.linear1 = nn.Linear(features_in, rank, bias=False)
        self.linear2 = nn.Linear(rank, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.linear1(x))


class EdgeFace(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16, at least 32.

    The total stride is 32, and the last halving drops an odd row, as it does at 112x112.
    ``variant`` is timm's name of the EdgeNeXt; ``gamma`` None keeps its fully connected layers.
    """

    after_global = ("model.head",)

    def __init__(
        self,
        variant: str,
        gamma: float | None,
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        import timm

        final_grid("edgeface", input_size, stride=16)
        if min(input_size) < SMALLEST_SIDE:
            raise InputSizeError(
                f"edgeface: input size {input_size[0]}x{input_size[1]} is too small; "
                f"both sides must be at least {SMALLEST_SIDE}"
            )
        dims = tuple(scaled(base, width) for base in DIMS[variant])
        self.model = timm.create_model(variant, pretrained=False, dims=dims, num_classes=embedding)
        if gamma is not None:
            _lower_ranks(self.model, gamma)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


DIMS = {
    "edgenext_xx_small": (24, 48, 88, 168),
    "edgenext_x_small": (32, 64, 100, 192),
    "edgenext_small": (48, 96, 160, 304),
    "edgenext_base": (80, 160, 288, 584),
}
"""Channels of the four stages, as in timm."""


def _lower_ranks(module: nn.Module, gamma: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, LowRankLinear(child.in_features, child.out_features, gamma))
        else:
            _lower_ranks(child, gamma)


# name: timm's network, gamma, parameters and FLOPs printed in millions
NETWORKS = {
    "edgeface_base": ("edgenext_base", None, "18.23", "1398.83"),
    "edgeface_s": ("edgenext_small", 0.5, "3.65", "306.12"),
    "edgeface_xs": ("edgenext_x_small", 0.6, "1.77", "154.00"),
    "edgeface_xxs": ("edgenext_xx_small", None, "1.24", "94.72"),
}


def _register(
    name: str, variant: str, gamma: float | None, parameters: str, operations: str
) -> None:
    figures = {
        "params": Figure(f"{parameters}M", 1e6 * float(parameters), within=0.005),
        "lfr_flops": Figure(f"{operations}M", 1e6 * float(operations)),
    }

    @register(name, family="edgeface", embedding=512, paper=Paper(SOURCE, figures))
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return EdgeFace(variant, gamma, embedding, input_size, width)


for _name, _layout in NETWORKS.items():
    _register(_name, *_layout)
