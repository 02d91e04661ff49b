"""Every network by name: ``create("mobilefacenet", embedding=128, input_size=(112, 112))``.

One file a family; each registers its networks beside their definition, and a file that is dropped
in here is found.
"""

from curation.registry import import_files
from teachers import iresnet, iresnet_adaface, iresnet_treb1en
from teachers.networks import NETWORKS, NetworkEntry, create, lookup

__all__ = [
    "NETWORKS",
    "NetworkEntry",
    "create",
    "iresnet",
    "iresnet_adaface",
    "iresnet_treb1en",
    "lookup",
]

import_files(__name__)
