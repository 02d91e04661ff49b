"""The names of timm's networks, without importing timm, which takes seconds.

timm_names.txt lists those of the version in its first line; ``just timm-names`` regenerates it. For
another version, timm itself is imported.
"""

from functools import cache
from importlib.metadata import version
from pathlib import Path

from curation.errors import UserError
from curation.suggestions import meant

FAMILY, PRETRAINED_FAMILY = "timm", "timm-pretrained"
"""Prefixes before the slash: with random weights, and with timm's weights"""
BODY = "network."
"""Prefix of the tensors of timm's own network in a student ``timm/NAME``"""
NAMES_FILE = Path(__file__).with_name("timm_names.txt")


def is_timm(backbone: str) -> bool:
    """Whether ``backbone`` names one of timm's networks."""
    family, slash, _ = backbone.partition("/")
    return bool(slash) and family in (FAMILY, PRETRAINED_FAMILY)


def check_timm(backbone: str) -> None:
    """Raise ``UserError`` if ``timm/NAME`` or ``timm-pretrained/NAME`` is not one of timm's.

    A tag of pretrained weights, after a dot in NAME, is left to timm to check.
    """
    name = backbone.partition("/")[2]
    known = timm_names()
    if name.partition(".")[0] not in known:
        raise UserError(f"backbone {backbone!r} is not a model of timm{meant(name, known)}")


def without_pretrained_weights(backbone: str) -> str:
    """The backbone to build before loading other weights: `timm/X` for `timm-pretrained/X`."""
    family, slash, name = backbone.partition("/")
    return f"{FAMILY}/{name}" if slash and family == PRETRAINED_FAMILY else backbone


@cache
def timm_names() -> frozenset[str]:
    """The names of the installed version."""
    made_of, *names = NAMES_FILE.read_text().split("\n")
    if made_of == _version_line():
        return frozenset(filter(None, names))
    import timm

    return frozenset(timm.list_models())


def write_timm_names() -> None:
    """Write the file for the installed version."""
    import timm

    NAMES_FILE.write_text("\n".join([_version_line(), *sorted(timm.list_models())]) + "\n")


def _version_line() -> str:
    return f"# timm {version('timm')}"
