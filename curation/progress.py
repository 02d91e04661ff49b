"""How long work tells how far it is."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``, often; it must be cheap."""

Watch = Callable[[str, str], AbstractContextManager[Progress | None]]
"""Called with a step's title and unit ("bytes" or "images"); gives its progress."""


def unwatched(title: str, unit: str) -> AbstractContextManager[Progress | None]:
    """For work that nobody watches."""
    return nullcontext()


Say = Callable[[str], None]
"""Told a sentence that a person wants to know"""


def unsaid(sentence: str) -> None:
    """For work that nobody listens to."""
