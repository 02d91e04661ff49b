"""Every network by name: ``create("mobilefacenet", embedding=128, input_size=(112, 112))``.

One file a family; each registers its networks beside their definition.
"""

from distill.backbones import (
    insightface_mobilefacenet,
    mnasnet,
    mobilefacenet,
    mobilenetv1,
    mobilenetv2,
    shufflenet,
    timm_models,
    y2,
)
from teachers import iresnet, iresnet_adaface, iresnet_treb1en
from teachers.networks import NETWORKS, NetworkEntry, create, lookup

__all__ = [
    "NETWORKS",
    "NetworkEntry",
    "create",
    "insightface_mobilefacenet",
    "iresnet",
    "iresnet_adaface",
    "iresnet_treb1en",
    "lookup",
    "mnasnet",
    "mobilefacenet",
    "mobilenetv1",
    "mobilenetv2",
    "shufflenet",
    "timm_models",
    "y2",
]
