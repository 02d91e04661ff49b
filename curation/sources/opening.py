"""Registers the kinds of sources and recognises the kind at a path.

A kind is a file in this package with a class or function under ``@source`` that opens a path as an
``ImageSource``. That is all that ``curate convert``, ``inspect``, ``verify`` and the recipes need.
"""

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.registry import check_unused, import_files
from curation.sources.image_source import ImageSource
from curation.sources.label_choice import USUAL, LabelChoice

_MOST_FOLDERS = 1000
_RECORDS, _RECORD_FILE = ".rec", "train.rec"
_DATA = (_RECORDS, ".tar", ".tar.gz", ".tgz", ".zip", ".parquet", ".arrow")
Open = TypeVar("Open", bound=Callable[[Path], ImageSource])


class SourceFormat(NamedTuple):
    """A kind of source."""

    wanted: str
    """The expected input as named in messages: "a folder IDENTITY/*.jpg\""""
    recognises: Callable[[Path], bool]
    """Whether a path, which need not exist, is of this kind, judged by name or first bytes"""
    open: Callable[[Path], ImageSource]
    """Raises ``UserError`` if the path is of this kind but unusable"""
    unit: str
    """The unit of progress"""


_FORMATS: dict[str, SourceFormat] = {}


def source(
    kind: str, wanted: str, recognises: Callable[[Path], bool], unit: str = "images"
) -> Callable[[Open], Open]:
    """Register a function or class that opens a path as this kind; see ``SourceFormat``."""

    def register(opens: Open) -> Open:
        before = _FORMATS.get(kind)
        check_unused("source", kind, before and before.open, opens)
        _FORMATS[kind] = SourceFormat(wanted, recognises, opens, unit)
        return opens

    return register


def open_source(path: Path, choice: LabelChoice = USUAL) -> ImageSource:
    """The images at ``path``, opened by the kind that recognises it, labelled as chosen.

    Raises ``UserError`` naming what the path is and which sources are supported.
    """
    path = Path(path)
    found = find_format(path)
    if found is None:
        raise _refusal(path)
    source = found.open(path)
    return source if choice == USUAL else source.choose_labels(choice)


def find_format(path: Path) -> SourceFormat | None:
    """The kind of source at ``path``, or None; raises ``UserError`` if several match."""
    import_files("curation.sources")
    found = [name for name in sorted(_FORMATS) if _FORMATS[name].recognises(path)]
    if len(found) > 1:
        kinds = " and as ".join(_FORMATS[name].wanted for name in found)
        raise UserError(f"{path} can be read as {kinds}; give the path of the one you mean")
    return _FORMATS[found[0]] if found else None


def wanted_sources() -> str:
    """The supported sources, for messages."""
    *others, last = [_FORMATS[name].wanted for name in sorted(_FORMATS)]
    return f"{'; '.join(others)}; or {last}"  # some contain commas


def _refusal(path: Path) -> UserError:
    kind = detect_kind(path)
    if kind is not None:
        return kind.refusal(path, "a training set")
    if not path.exists():
        return UserError(f"{path}: it does not exist; {_wanted()}")
    if not path.is_dir():
        return UserError(f"{path} is not a source of images; {_wanted()}")
    return UserError(f"{path}: no train.rec and no images in it; {_inside(path) or _wanted()}")


def _wanted() -> str:
    return f"give {wanted_sources()}"


def _inside(path: Path) -> str:
    """What to give instead of the folder ``path``: the first data files below it; "" if none."""
    for folder, folders, names in islice(os.walk(path), _MOST_FOLDERS):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        found = sorted(name for name in names if name.lower().endswith(_DATA) and name[0] != ".")
        if found:
            is_file = found[0].lower().endswith(_RECORDS) and _RECORD_FILE not in found
            give = Path(folder, found[0]) if is_file or len(found) == 1 else Path(folder)
            count = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
            return f"it holds {Path(folder, found[0]).relative_to(path)}{count}: give {give}"
    return ""
