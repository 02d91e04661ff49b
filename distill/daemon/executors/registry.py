"""The registry of executors."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

from curation.errors import UserError
from curation.suggestions import hint
from distill.daemon.executor import Executor, JobCommand

Build = Callable[[JobCommand, float], Executor]
"""Makes an executor, given the jobs' command and their grace in seconds."""

_Build = TypeVar("_Build", bound=Build)

EXECUTORS: dict[str, Build] = {}


def executor(name: str) -> Callable[[_Build], _Build]:
    """Enter the class of an executor, or a function that makes one, under its name."""

    def enter(build: _Build) -> _Build:
        if name in EXECUTORS:
            raise UserError(
                f"the executor {name!r} is registered in {EXECUTORS[name].__module__} and in "
                f"{build.__module__}; a name is given once"
            )
        EXECUTORS[name] = build
        return build

    return enter


def find_executor(name: str) -> Build:
    """What makes the executor of this name; ``UserError`` where there is none."""
    package = importlib.import_module("distill.daemon.executors")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    if name not in EXECUTORS:
        raise UserError(f"no executor {name!r}{hint(name, sorted(EXECUTORS))}")
    return EXECUTORS[name]
