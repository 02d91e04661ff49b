"""Progress of a command's work: amount, speed, remaining time, and duration at the end."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from curation.progress import Pace, Progress, spoken
from distill.cli.display import LINE_SECONDS, Display, counted, display, quantity, took


@contextmanager
def watch(title: str, unit: str, at_once: bool = True) -> Iterator[Progress]:
    """Show the progress of work counted in ``unit`` ("bytes", "images", ...).

    It appears at once, or, without ``at_once``, with the first progress that the work reports.
    """
    with watch_phases((title,), unit, at_once) as (progress,):
        yield progress


@contextmanager
def watch_phases(
    titles: Sequence[str], unit: str, at_once: bool = True
) -> Iterator[list[Progress]]:
    """`watch` work with several alternating phases, each with its own title and progress.

    The final line describes the first phase.
    """
    with display() as shown:
        work = _Work(shown, titles[0], unit)
        if at_once:
            work.show()
        with _heartbeat(work):
            yield [partial(work.report, title) for title in titles]
        if at_once or work.total:
            work.finish()


class _Work:
    """The state of one piece of work."""

    def __init__(self, shown: Display, title: str, unit: str) -> None:
        self._display, self._title, self._unit = shown, title, unit
        self._pace, self._started = Pace(), time.monotonic()
        self._phase, self._counts = title, (0, 0)
        self.total = 0
        """The total of the first phase"""
        shown.begin()

    def report(self, phase: str, done: int, total: int) -> None:
        """Update the progress of a phase."""
        if phase != self._phase:
            self._phase, self._pace = phase, Pace()
        if phase == self._title:
            self.total = total
        self._counts = done, total
        self._pace.mark(done)
        self.show()

    def show(self) -> None:
        """Show the latest progress, or how long the work has been silent."""
        done, total = self._counts
        if total:
            details = counted(done, total, self._unit, self._pace.per_second)
        else:
            details = [f"at work for {spoken(time.monotonic() - self._started)}"]
        self._display.show(self._phase, done, total, details)

    def finish(self) -> None:
        """Print the amount done and the duration."""
        what = f"{quantity(self.total, self._unit)} in" if self._unit and self.total else "done in"
        self._display.say(f"{self._title}: {what} {took(time.monotonic() - self._started)}")


@contextmanager
def _heartbeat(work: _Work) -> Iterator[None]:
    """Update the display even while the work reports nothing."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(LINE_SECONDS):
            work.show()

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
