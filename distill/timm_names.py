"""The names of timm's networks, known without timm: importing it takes seconds.

timm_names.txt has those of one version, which it says first; ``just timm-names`` writes it anew. Of
another version timm itself is asked.
"""

from functools import cache
from importlib.metadata import version
from pathlib import Path

from curation.errors import UserError
from curation.suggestions import meant

FAMILY, PRETRAINED_FAMILY = "timm", "timm-pretrained"
"""Before the slash: with random weights, and with timm's own."""
NAMES_FILE = Path(__file__).with_name("timm_names.txt")


def is_timm(backbone: str) -> bool:
    """Whether a spec that names this ``backbone`` means one of timm's."""
    family, slash, _ = backbone.partition("/")
    return bool(slash) and family in (FAMILY, PRETRAINED_FAMILY)


def check_timm(backbone: str) -> None:
    """Raise ``UserError`` where ``timm/NAME`` or ``timm-pretrained/NAME`` is none of timm's.

    A tag of pretrained weights, after a dot in NAME, is left to timm.
    """
    name = backbone.partition("/")[2]
    known = timm_names()
    if name.partition(".")[0] not in known:
        raise UserError(f"backbone {backbone!r} is not a model of timm{meant(name, known)}")


def without_pretrained_weights(backbone: str) -> str:
    """The backbone to build where other weights follow: `timm/X` for `timm-pretrained/X`."""
    family, slash, name = backbone.partition("/")
    return f"{FAMILY}/{name}" if slash and family == PRETRAINED_FAMILY else backbone


@cache
def timm_names() -> frozenset[str]:
    """Of the installed version."""
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
