"""The noise checks: a file each, named after its check, with all that is known of it.

A file that is put here is a check: `curation.noise.check` says what it holds.
"""

import pkgutil


def check_names() -> list[str]:
    """The names of all checks, by the alphabet, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
