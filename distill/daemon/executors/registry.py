"""The registry of executors."""

from collections.abc import Callable
from typing import TypeVar

from curation.errors import UserError
from curation.registry import check_unused, import_files
from curation.suggestions import hint
from distill.daemon.executor import Executor, JobCommand

Build = Callable[[JobCommand, float], Executor]
"""Creates the executor, given the jobs' command and their grace in seconds."""

_Build = TypeVar("_Build", bound=Build)

EXECUTORS: dict[str, Build] = {}


def executor(name: str) -> Callable[[_Build], _Build]:
    """Register an executor class, or a function that creates one, under its name."""

    def enter(build: _Build) -> _Build:
        check_unused("executor", name, EXECUTORS.get(name), build)
        EXECUTORS[name] = build
        return build

    return enter


def find_executor(name: str) -> Build:
    """The factory of the executor with this name; ``UserError`` if there is none."""
    import_files("distill.daemon.executors")
    if name not in EXECUTORS:
        raise UserError(f"no executor {name!r}{hint(name, sorted(EXECUTORS))}")
    return EXECUTORS[name]
