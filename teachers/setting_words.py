"""How messages name a teacher's setting: as a key of a job spec or as a command option."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OF_OPTIONS = {"output": "part"}
"""Keys whose option has a different name"""

_VARIABLE = "DISTILL_SETTINGS_ARE_OPTIONS"
"""Environment variable for confined processes, whose errors appear in this process"""

_as_options: ContextVar[bool] = ContextVar("as_options", default=False)


@contextmanager
def settings_are_options() -> Iterator[None]:
    """Inside the block, ``setting`` names options: the user ran a command without a spec."""
    token = _as_options.set(True)
    try:
        yield
    finally:
        _as_options.reset(token)


def words_of_settings() -> dict[str, str]:
    """The environment of a child process that should name settings as this one does."""
    return {_VARIABLE: "1"} if _are_options() else {}


def _are_options() -> bool:
    return _as_options.get() or _VARIABLE in os.environ


def setting(key: str, value: object) -> str:
    """``size = [64, 64]``, or ``--size 64``; ``...`` stands for a value that the user knows."""
    if not _are_options():
        return f"{key} = {'...' if value is ... else json.dumps(value)}"
    option = f"--{_OF_OPTIONS.get(key, key).replace('_', '-')}"
    if isinstance(value, list):
        first, *others = value
        if any(other != first for other in others):
            return f"{key} = {json.dumps(value)} in a job spec, as {option} is for squares"
        value = first
    return f"{option} {'...' if value is ... else shlex.quote(str(value))}"
