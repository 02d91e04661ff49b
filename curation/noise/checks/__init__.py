"""The noise checks, one per file, which is named after the check.

Every file in this folder is a check; ``curation.noise.check`` defines the interface.
"""

import pkgutil


def check_names() -> list[str]:
    """The names of all checks in alphabetical order, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
