"""What all registries share: names are unique, and a file dropped into a package is found."""

import importlib
import pkgutil

from curation.errors import UserError


def check_unused(kind: str, name: str, before: object | None, now: object) -> None:
    """Raise ``UserError`` with both modules where ``before``, a class or function, has the name."""
    if before is not None:
        raise UserError(
            f"the {kind} {name!r} is registered in {before.__module__} and in "
            f"{now.__module__}; names are unique"
        )


def import_files(package: str) -> None:
    """Import every file of a package, so that all that it registers is entered."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path, f"{package}."):
        importlib.import_module(module.name)
