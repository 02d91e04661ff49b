"""Every network by name: ``create("mobilefacenet", embedding=128, input_size=(112, 112))``.

One file a family; each registers its networks beside their definition.
"""

from distill.backbones import mobilefacenet, timm_models
from teachers import iresnet
from teachers.networks import NETWORKS, NetworkEntry, create, lookup

__all__ = [
    "NETWORKS",
    "NetworkEntry",
    "create",
    "iresnet",
    "lookup",
    "mobilefacenet",
    "timm_models",
]
