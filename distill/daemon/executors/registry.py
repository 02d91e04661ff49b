"""The registry of executors."""

from collections.abc import Callable
from typing import TypeVar

from curation.errors import UserError
from curation.registry import check_unused, import_files
from curation.suggestions import hint
from distill.daemon.executor import Executor, JobCommand

Build = Callable[[JobCommand, float], Executor]
"""Makes an executor, given the jobs' command and their grace in seconds."""

_Build = TypeVar("_Build", bound=Build)

EXECUTORS: dict[str, Build] = {}


def executor(name: str) -> Callable[[_Build], _Build]:
    """Enter the class of an executor, or a function that makes one, under its name."""

    def enter(build: _Build) -> _Build:
        check_unused("executor", name, EXECUTORS.get(name), build)
        EXECUTORS[name] = build
        return build

    return enter


def find_executor(name: str) -> Build:
    """What makes the executor of this name; ``UserError`` where there is none."""
    import_files("distill.daemon.executors")
    if name not in EXECUTORS:
        raise UserError(f"no executor {name!r}{hint(name, sorted(EXECUTORS))}")
    return EXECUTORS[name]
