"""Submits that come at once: few are checked at a time, and their order stays."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from curation.locks import held
from curation.workspace import Workspace

_RETRY_SECONDS = 0.05


class RequestOrder:
    """Lets requests that are prepared side by side take effect in the order in which they came.

    They have to be prepared in that order too, or all may wait for one that cannot begin.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._given = 0
        self._under_way: set[int] = set()

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """A turn, for as long as the block runs; what it gives waits for all before it to be over.

        To be entered when the request comes.
        """
        with self._changed:
            self._given = number = self._given + 1
            self._under_way.add(number)
        try:
            yield lambda: self._wait(number)
        finally:
            with self._changed:
                self._under_way.discard(number)
                self._changed.notify_all()

    def _wait(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: min(self._under_way, default=number) >= number)


@contextmanager
def one_of_two(workspace: Workspace) -> Iterator[None]:
    """Run the block beside that of one other process at most: a check may take a gigabyte."""
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be locked, nobody is kept waiting
            while not _took_either(stack, (workspace.root, workspace.datasets)):
                time.sleep(_RETRY_SECONDS)
        yield


def _took_either(stack: ExitStack, places: tuple[Path, ...]) -> bool:
    """Hold one of the folders until the stack ends; whether one was free."""
    for place in places:
        with suppress(BlockingIOError):
            stack.enter_context(held(place))
            return True
    return False
