"""The kinds of sources, and which one lies at a path.

A kind is a file in this package: a class or function that opens a path as an ``ImageSource``, under
``@source``. That is enough for ``curate convert``, ``inspect``, ``verify`` and the recipes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from curation.errors import UserError
from curation.file_kinds import what_is_this
from curation.registry import check_unused, import_files
from curation.sources.image_source import ImageSource

Open = TypeVar("Open", bound=Callable[[Path], ImageSource])


class SourceFormat(NamedTuple):
    """A kind of source."""

    wanted: str
    """What messages say that can be given: "a folder IDENTITY/*.jpg\""""
    recognises: Callable[[Path], bool]
    """Whether a path, which need not exist, is of this kind: by its name or first bytes"""
    open: Callable[[Path], ImageSource]
    """Raises ``UserError`` where the path is of this kind and cannot be used"""
    unit: str
    """What progress counts"""


_FORMATS: dict[str, SourceFormat] = {}


def source(
    kind: str, wanted: str, recognises: Callable[[Path], bool], unit: str = "images"
) -> Callable[[Open], Open]:
    """Register what opens a path as a source of this kind; see ``SourceFormat``."""

    def register(opens: Open) -> Open:
        before = _FORMATS.get(kind)
        check_unused("source", kind, before and before.open, opens)
        _FORMATS[kind] = SourceFormat(wanted, recognises, opens, unit)
        return opens

    return register


def open_source(path: Path, labels: bool = True) -> ImageSource:
    """The images at ``path``, of the one kind that recognises it; unlabelled without ``labels``.

    Raises ``UserError`` saying what it is and what was looked for.
    """
    path = Path(path)
    found = find_format(path)
    if found is None:
        raise _refusal(path)
    source = found.open(path)
    return source if labels else source.without_labels()


def find_format(path: Path) -> SourceFormat | None:
    """The kind of source at ``path``; None where there is none, ``UserError`` where several are."""
    import_files("curation.sources")
    found = [name for name in sorted(_FORMATS) if _FORMATS[name].recognises(path)]
    if len(found) > 1:
        kinds = " and as ".join(_FORMATS[name].wanted for name in found)
        raise UserError(f"{path} can be read as {kinds}; give the path of the one you mean")
    return _FORMATS[found[0]] if found else None


def wanted_sources() -> str:
    """What can be given as a source, for messages."""
    *others, last = [_FORMATS[name].wanted for name in sorted(_FORMATS)]
    return f"{'; '.join(others)}; or {last}"  # some have commas of their own


def _refusal(path: Path) -> UserError:
    kind = what_is_this(path)
    if kind is not None:
        return kind.refusal(path, "a training set")
    if not path.exists():
        return UserError(f"{path}: it does not exist; give {wanted_sources()}")
    if not path.is_dir():
        return UserError(f"{path} is not a source of images; give {wanted_sources()}")
    others = ", ".join(sorted(entry.name for entry in path.glob("*.rec"))[:3])
    there = f"; it holds {others}: give that file" if others else ""
    return UserError(f"{path}: no train.rec and no images in it; give {wanted_sources()}{there}")
