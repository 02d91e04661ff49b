"""The ResNets of face recognition in AdaFace's layer order, also used by CVLface's ``iresnet``.

Kim et al., AdaFace, 2022 (mk-minchul/AdaFace, net.py): blocks BN-conv-BN-PReLU-conv(stride)-BN as
in insightface, but with a parameter-free shortcut wherever the number of channels does not change,
and a last normalisation without scale and shift. Module names are that repository's, so its
checkpoints and CVLface's load by name (CVLface's ``iresnet_insightface`` is our iresnet18, -50,
-100). AdaFace's network normalises its output, this one does not. AdaFace's own checkpoints expect
BGR colours.
"""

from functools import partial

from torch import nn

from teachers.iresnet_treb1en import IRBackbone, SEModule
from teachers.layers import PReLU
from teachers.networks import Paper, Size, register

VARIANTS = (
    # name, blocks of each stage, squeeze-and-excitation
    ("adaface_ir18", (2, 2, 2, 2), False),
    ("adaface_ir34", (3, 4, 6, 3), False),
    ("adaface_ir50", (3, 4, 14, 3), False),
    ("adaface_ir_se50", (3, 4, 14, 3), True),
    ("adaface_ir101", (3, 13, 30, 3), False),
)
DROPOUT = 0.4


def _residual(channels_in: int, channels: int, stride: int, squeeze_excite: bool) -> nn.Sequential:
    layers = nn.Sequential(
        nn.BatchNorm2d(channels_in),
        nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False),
        nn.BatchNorm2d(channels),
        PReLU(channels),
        nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
    if squeeze_excite:
        layers.add_module("se_block", SEModule(channels))
    return layers


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _register(name: str, depths: tuple[int, ...], squeeze_excite: bool) -> None:
    residual = partial(_residual, squeeze_excite=squeeze_excite)
    paper = Paper("Kim et al., AdaFace, 2022 (mk-minchul/AdaFace, net.py)")

    @register(name, family="iresnet-adaface", embedding=512, paper=paper)
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        network = IRBackbone(depths, residual, embedding, input_size, width, DROPOUT, affine=False)
        _initialise(network)
        return network


for _variant in VARIANTS:
    _register(*_variant)
