"""Every network by name: ``create("mobilefacenet", embedding=128, input_size=(112, 112))``.

One file a family; each registers its networks beside their definition.
"""

from distill.backbones import (
    edgeface,
    ghostfacenet,
    insightface_mobilefacenet,
    meituan,
    mnasnet,
    mobilefacenet,
    mobilenetv1,
    mobilenetv2,
    octave_networks,
    seesaw,
    shufflenet,
    timm_models,
    vargfacenet,
    y2,
)
from teachers import iresnet, iresnet_adaface, iresnet_treb1en
from teachers.networks import NETWORKS, NetworkEntry, create, lookup

__all__ = [
    "NETWORKS",
    "NetworkEntry",
    "create",
    "edgeface",
    "ghostfacenet",
    "insightface_mobilefacenet",
    "iresnet",
    "iresnet_adaface",
    "iresnet_treb1en",
    "lookup",
    "meituan",
    "mnasnet",
    "mobilefacenet",
    "mobilenetv1",
    "mobilenetv2",
    "octave_networks",
    "seesaw",
    "shufflenet",
    "timm_models",
    "vargfacenet",
    "y2",
]
