"""Every network by name: ``create("mobilefacenet", embedding=128, input_size=(112, 112))``.

One file per family. Each registers its networks next to their definition; a new file in this
package is found automatically.
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
