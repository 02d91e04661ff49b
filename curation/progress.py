"""Progress and speed of long work."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``, often; it must be cheap."""

StepDisplay = Callable[[str, str], AbstractContextManager[Progress | None]]
"""Called with a step's title and unit ("bytes" or "images"); returns its progress."""

SHORTEST_WINDOW = 60.0
"""Seconds over which a speed is measured at least"""
MARKS = 60
"""Marks in a window"""


def unwatched(title: str, unit: str) -> AbstractContextManager[Progress | None]:
    """A ``StepDisplay`` that displays nothing."""
    return nullcontext()


def shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The progress of one part of a whole of ``total``, of which ``before`` is done."""
    if progress is None:
        return None
    return lambda done, _count: progress(before + done, total)


Say = Callable[[str], None]
"""Receives a sentence for the user"""


def silent(sentence: str) -> None:
    """A ``Say`` that ignores the sentence."""


class Pace:
    """The speed of work over the last minute or the last half of the time, whichever is longer.

    Half of the time contains regular pauses, such as evaluations during a training, in proportion.
    What was done before the first mark (by an interrupted run) is not counted.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = 0.0
        self._marks: deque[tuple[float, float]] = deque()

    def mark(self, done: float) -> None:
        """Record how much is done now; cheap."""
        now = self._clock()
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()  # a new count has started
        if not self._marks:
            self._began = now
        window = max(SHORTEST_WINDOW, (now - self._began) / 2)
        if self._marks and now - self._marks[-1][0] < window / MARKS:
            return
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= window:
            self._marks.popleft()

    @property
    def per_second(self) -> float | None:
        """``None`` until there is progress."""
        if len(self._marks) < 2:
            return None
        (begin, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - begin) if after > before else None


def seconds_left(done: float, total: float, per_second: float | None) -> float | None:
    """Time for the rest at this speed; ``None`` if the speed is unknown."""
    return None if not per_second else max(total - done, 0) / per_second


def spoken(seconds: float) -> str:
    """A duration in words: ``7 s``, ``12 min``, ``3 h 20 min``, ``5 days``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(minutes / 1440)} days"
