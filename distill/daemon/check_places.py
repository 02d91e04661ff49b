"""Limits how many commands check specs at the same time, each in its own process."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from curation.locks import held
from curation.workspace import Workspace

_RETRY_SECONDS = 0.05
_LONGEST_RETRY_SECONDS = 0.4


@contextmanager
def one_of_two(workspace: Workspace) -> Iterator[None]:
    """Run the block beside at most one other process: a check may take a gigabyte."""
    with ExitStack() as stack:
        with suppress(OSError):  # without locking, nobody waits
            pause = _RETRY_SECONDS
            while not _took_either(stack, (workspace.root, workspace.datasets)):
                time.sleep(pause)
                pause = min(1.2 * pause, _LONGEST_RETRY_SECONDS)
        yield


def _took_either(stack: ExitStack, places: tuple[Path, ...]) -> bool:
    """Lock one of the folders until the stack ends; returns whether one was free."""
    for place in places:
        with suppress(BlockingIOError):
            stack.enter_context(held(place))
            return True
    return False
