"""Progress on stderr: redrawn in a terminal, one line per minute otherwise."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from curation.printable import printable
from curation.progress import seconds_left, spoken
from distill.cli.screen import INDENT, can_redraw, can_show, note, screen_width, size_of, wrap

LINE_SECONDS = 60.0
"""Between two lines if the output is not a terminal"""
DRAW_SECONDS = 0.25
BAR, NARROWEST_BAR = 40, 10
"""Columns."""


class Display:
    """Permanent lines and, below them in a terminal, the redrawn progress."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._terminal = can_redraw(sys.stderr)
        self._at: float | None = None
        self._drawn = 0
        self._lock = threading.RLock()

    def say(self, text: str) -> None:
        """Print a permanent line."""
        with self._lock:
            self.clear()
            note(text)

    def begin(self) -> None:
        """Start new work: a terminal shows it at once, a file gets a line after a minute."""
        self._at = None if self._terminal else self._clock()

    def show(self, title: str, done: float, total: float, details: list[str]) -> None:
        """Show the progress; most calls do nothing."""
        with self._lock:
            self._show(title, done, total, details)

    def clear(self) -> None:
        """Erase the redrawn progress."""
        if self._drawn:
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            sys.stderr.write(f"\r{up}\x1b[J")
            sys.stderr.flush()
            self._drawn = 0

    def _show(self, title: str, done: float, total: float, details: list[str]) -> None:
        now = self._clock()
        between = DRAW_SECONDS if self._terminal else LINE_SECONDS
        if self._at is not None and now - self._at < between:
            return
        self._at = now
        if self._terminal:
            self._draw(title, done, total, details)
        else:
            share = [percent(done, total)] if total > 0 else []
            note(f"{title}: {', '.join([*share, *details])}")

    def _draw(self, title: str, done: float, total: float, details: list[str]) -> None:
        width = screen_width(sys.stderr) - 1  # a full line would wrap the cursor
        title, share = printable(title), percent(done, total)
        room = min(BAR, width - size_of(title) - size_of(share) - 4)
        bar = f"{drawn_bar(done, total, room)}  " if room >= NARROWEST_BAR else ""
        wrapped = wrap(printable(", ".join(details)), width - len(INDENT)) if details else []
        lines = [f"{title}  {bar}{share}", *(INDENT + line for line in wrapped)]
        self.clear()
        sys.stderr.write("\n".join(lines))
        sys.stderr.flush()
        self._drawn = len(lines)


@contextmanager
def display() -> Iterator[Display]:
    """A display that erases everything but its permanent lines at the end."""
    made = Display()
    try:
        yield made
    finally:
        made.clear()


def percent(done: float, total: float) -> str:
    """The completed share; never 100% before everything is done."""
    return f"{min(100, int(100 * done / total))}%" if total > 0 else ""


def drawn_bar(done: float, total: float, width: int) -> str:
    """A bar of ``width`` columns."""
    full = min(width, int(width * done / total)) if total > 0 else 0
    strong, weak = ("━", "─") if can_show("━─", sys.stderr) else ("#", "-")
    return strong * full + weak * (width - full)


def counted(done: float, total: float, unit: str, per_second: float | None) -> list[str]:
    """``1,200 of 5,000 images``, ``350/s``, ``about 11 s left``, as far as known."""
    parts = []
    if unit:
        parts.append(f"{amount(done, unit)} of {quantity(total, unit)}")
    if unit and per_second:
        parts.append(speed(per_second, unit))
    left = seconds_left(done, total, per_second)
    return parts if not left else [*parts, f"about {spoken(left)} left"]


def speed(per_second: float, unit: str) -> str:
    """A speed; a positive one is never shown as 0."""
    if unit == "bytes" or per_second >= 10:
        return f"{amount(per_second, unit)}/s"
    if per_second >= 1:
        return f"{per_second:.1f}/s"
    a_minute = 60 * per_second
    return f"{a_minute:.1f} a minute" if a_minute >= 1 else f"{60 * a_minute:.2g} an hour"


def amount(count: float, unit: str) -> str:
    """Bytes as B, kB, MB or GB; any other unit unchanged."""
    if unit != "bytes":
        return f"{count:,.0f}"
    for prefix in ("", "k", "M"):
        if count < 1000:
            return f"{count:.0f} {prefix}B"
        count /= 1000
    return f"{count:,.1f} GB"


def quantity(count: float, unit: str) -> str:
    """``5,000 images``, ``1.2 GB``."""
    return amount(count, unit) if unit == "bytes" else f"{amount(count, unit)} {unit}"


def took(seconds: float) -> str:
    """A measured duration, with tenths if it is short."""
    return f"{seconds:.1f} s" if seconds < 10 else spoken(seconds)
