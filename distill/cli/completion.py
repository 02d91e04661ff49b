"""Shell completion: names from the workspace, quickly and without errors.

``distill --install-completion`` sets it up. Every TAB starts a process, so nothing here imports
slow modules such as numpy.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import typer

import curation
from curation.printable import printable
from curation.workspace import QUEUE_FILE, Workspace

MOST_OFFERED = 1000
BUNDLES = "*/bundle"
"""In runs/; must match ``distill.run_directory``."""
_BUSY_SECONDS = 0.2

Names = Callable[[Workspace, str], Iterable[str]]
"""Candidates from a workspace, given the typed prefix, which may be ignored"""
Completer = Callable[[typer.Context, str], list[str]]


def completer(names: Names) -> Completer:
    """Typer's completion callback: the ``names`` that start with the prefix; none on any error."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            place = Workspace.locate(ctx.params.get("workspace"))
            found = {name for name in names(place, incomplete) if name.startswith(incomplete)}
            return sorted(name for name in found if name == printable(name) != "")[:MOST_OFFERED]
        except Exception:  # a shell would show the error in the middle of the line
            return []

    return complete


@completer
def jobs(place: Workspace, begun: str) -> Iterable[str]:
    """The jobs of the queue, the newest if there are too many."""
    question = "SELECT name FROM jobs WHERE substr(name, 1, ?) = ? ORDER BY position DESC"
    return _query(place, question, begun)


@completer
def runs(place: Workspace, begun: str) -> Iterable[str]:
    """Everything with a run folder: jobs, manual runs, runs set aside."""
    return (entry.name for entry in os.scandir(place.runs) if not entry.name.startswith("."))


@completer
def labels(place: Workspace, begun: str) -> Iterable[str]:
    return _query(place, "SELECT DISTINCT label FROM jobs WHERE substr(label, 1, ?) = ?", begun)


@completer
def image_sets(place: Workspace, begun: str) -> Iterable[str]:
    """Stores and views."""
    return place.image_sets()


@completer
def data_sets(place: Workspace, begun: str) -> Iterable[str]:
    """Stores, views, and evaluation sets of pairs."""
    return [*place.image_sets(), *place.pair_sets()]


@completer
def pair_files(place: Workspace, begun: str) -> Iterable[str]:
    """Files of verification pairs."""
    return (_as_begun(path, begun) for path in place.datasets.glob("*/*.bin"))


@completer
def bundles(place: Workspace, begun: str) -> Iterator[str]:
    """The folders of bundles, pulled ones and those of jobs."""
    for path in (*place.bundles.glob("*"), *place.runs.glob(BUNDLES)):
        if path.is_dir() and not path.name.startswith("."):
            yield _as_begun(path, begun)


@completer
def teachers(place: Workspace, begun: str) -> Iterator[str]:
    """Files in teachers/, and jobs with a bundle."""
    yield from (path.name for path in place.teachers.glob("*"))
    yield from (path.parent.name for path in place.runs.glob(BUNDLES))


@completer
def recipes(place: Workspace, begun: str) -> Iterable[str]:
    folder = Path(curation.__path__[0]) / "recipes"
    return (path.stem for path in folder.glob("*.toml"))


def _query(place: Workspace, question: str, begun: str) -> list[str]:
    """One column of the queue, read without the log if the file is not writable."""
    path = place.daemon / QUEUE_FILE
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    uri = f"{path.as_uri()}?{'mode=rw' if writable else 'immutable=1'}"
    import sqlite3

    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
        rows = connection.execute(f"{question} LIMIT {MOST_OFFERED}", (len(begun), begun))
        return [str(name) for (name,) in rows]


def _as_begun(path: Path, begun: str) -> str:
    """The path relative to the current folder if it is below it, unless the user typed a root."""
    here = Path.cwd()
    from_root = begun.startswith("/") or here not in path.parents
    return str(path if from_root else path.relative_to(here))
