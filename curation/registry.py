"""Common rules of all registries: names are unique, and new files in a package are found."""

import importlib
import pkgutil

from curation.errors import UserError


def check_unused(kind: str, name: str, before: object | None, now: object) -> None:
    """Raise ``UserError`` with both modules if the name already belongs to ``before``."""
    if before is not None:
        raise UserError(
            f"the {kind} {name!r} is registered in {before.__module__} and in "
            f"{now.__module__}; names are unique"
        )


def import_files(package: str) -> None:
    """Import every file of a package, so that its entries are registered."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path, f"{package}."):
        importlib.import_module(module.name)
