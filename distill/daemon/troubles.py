"""Reporting that something does not work, at growing intervals, and that it works again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 3600.0
"""Seconds between two lines about the same trouble; each pause doubles."""


@dataclass
class _Trouble:
    began: float
    reported: float
    pause: float = FIRST_PAUSE
    times: int = 1


class Troubles:
    """The troubles of a process, each with its own name."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._open: dict[str, _Trouble] = {}

    def met(self, name: str, what: str) -> None:
        """Report that ``what`` went wrong: at once the first time, then with doubling pauses."""
        now = self._clock()
        trouble = self._open.get(name)
        if trouble is None:
            self._open[name] = _Trouble(now, now)
            self._say(what)
            return
        trouble.times += 1
        if now - trouble.reported >= trouble.pause:
            trouble.reported, trouble.pause = now, min(2 * trouble.pause, LONGEST_PAUSE)
            self._say(f"{what} ({trouble.times} times in {now - trouble.began:.0f} s)")

    def over(self, name: str, what: str) -> None:
        """Report once that ``what`` works again, if it did not before."""
        trouble = self._open.pop(name, None)
        if trouble is not None:
            lasted = self._clock() - trouble.began
            self._say(f"{what} (it failed {trouble.times} times in {lasted:.0f} s)")
