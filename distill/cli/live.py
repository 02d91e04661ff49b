"""The full-screen views: `distill status --live`, `distill watch --live`.

They are redrawn a few times per second from the same records that the commands read; keys trigger
the same actions as the commands.
"""

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from curation.printable import printable
from curation.progress import spoken
from curation.workspace import Workspace
from distill.cli.plots import braille
from distill.cli.screen import can_redraw, printable_log
from distill.cli.step_lines import number, progress_words
from distill.daemon.listing import Wanted
from distill.daemon.reports import JobReport, ReportPage
from distill.daemon.watching import over
from distill.run_directory import LOG, read_log
from distill.web.curves import CurveStore

if TYPE_CHECKING:
    from rich.layout import Layout
    from rich.text import Text

LOOK_SECONDS = 0.5
LEAST_LINES, LEAST_COLUMNS = 16, 60
_LOG_BYTES = 1 << 14
_CURVES = 3
_ARROWS = {b"\x1b[A": b"k", b"\x1b[B": b"j", b"\x1bOA": b"k", b"\x1bOB": b"j"}
KEYS = {
    "q": "leave",
    "j k": "choose",
    "p": "pause",
    "r": "resume",
    "f": "first",
    "l": "last",
    "t": "retry",
    "c": "cancel",
    "d": "drain",
    "u": "undrain",
}
_COLOURS = {"running": "green", "failed": "red", "queued": "cyan", "done": "dim"}


def is_possible() -> bool:
    """Whether stdout is a terminal and stdin can supply keys."""
    if not (can_redraw(sys.stdout) and sys.stdin.isatty()):
        return False
    size = os.get_terminal_size(sys.stdout.fileno())
    return size.lines >= LEAST_LINES and size.columns >= LEAST_COLUMNS


class LiveView:
    """The state of the screen; ``only`` is the job of `watch`, else None."""

    def __init__(self, workspace: Workspace, wanted: Wanted, only: str | None = None) -> None:
        self._workspace = workspace
        self._wanted = wanted
        self._only = only
        self._chosen = only
        self._to_cancel: str | None = None
        """A cancel that awaits confirmation"""
        self._message = ""
        self._curves = CurveStore(workspace.runs)
        self._page: ReportPage | None = None
        self._drained: float | None = None

    def look(self) -> None:
        """Read the queue and the state of the selected job."""
        from distill.daemon import client

        self._page = client.page(self._workspace, self._wanted)
        self._drained = client.drained_since(self._workspace)
        names = [job.name for job in self._page.jobs]
        if self._only is None and self._chosen not in names:
            self._chosen = names[0] if names else None

    @property
    def job(self) -> JobReport | None:
        """The selected job."""
        from distill.daemon import client

        jobs = [] if self._page is None else self._page.jobs
        found = next((job for job in jobs if job.name == self._chosen), None)
        if found is None and self._only is not None:
            return client.find_report(self._workspace, self._only)
        return found

    def press(self, key: str) -> bool:
        """Handle a key; returns whether the view stays open."""
        job, self._to_cancel = self._to_cancel, None
        if job is not None:
            self._message = ""
            if key == "y":
                self._act("cancel", job)
            return True
        if key in ("q", "\x03", "\x04"):
            return False
        if key in ("j", "k"):
            self._choose(1 if key == "j" else -1)
        elif key in ("d", "u"):
            self._act("drain" if key == "d" else "undrain", "")
        elif self._chosen is not None:
            self._press_on(key, self._chosen)
        return True

    def _press_on(self, key: str, job: str) -> None:
        if key == "c":
            self._to_cancel, self._message = job, f"cancel {job}? y, or any other key for no"
            return
        verb = {"p": "pause", "r": "resume", "f": "first", "l": "last", "t": "retry"}.get(key)
        if verb is not None:
            self._act(verb, job)

    def _choose(self, by: int) -> None:
        if self._only is None and self._page is not None and self._page.jobs:
            names = [job.name for job in self._page.jobs]
            at = names.index(self._chosen) if self._chosen in names else 0
            self._chosen = names[max(0, min(len(names) - 1, at + by))]

    def _act(self, verb: str, job: str) -> None:
        """Run an action in a thread because some wait until a job has written its checkpoint."""
        self._message = f"{verb} {job} ...".replace("  ", " ")

        def do() -> None:
            try:
                _do(self._workspace, verb, job)
                self._message = f"{verb} {job}: done"
            except (UserError, OSError) as error:
                self._message = str(error)

        threading.Thread(target=do, daemon=True).start()

    def draw(self, columns: int, lines: int) -> "Layout":
        """Lay out the screen for this size."""
        from rich.layout import Layout
        from rich.panel import Panel
        from rich.text import Text

        screen, job = Layout(), self.job
        parts = [Layout(self._head(), size=1)]
        if self._only is None:
            room = max(4, min(2 + len(self._page.jobs if self._page else []), lines // 3))
            parts.append(Layout(Panel(self._queue(room - 2), title="queue"), size=room))
        if job is not None:
            title, size = Text(printable(job.name)), max(3, min(9, lines // 3))
            parts.append(Layout(Panel(self._job(job), title=title), size=size))
            parts.append(Layout(Panel(self._log(job, lines), title="log")))
        foot = self._foot()
        parts.append(Layout(foot, size=min(3, -(-len(foot) // max(1, columns - 8)))))
        screen.split_column(*parts)
        return screen

    def _head(self) -> "Text":
        from rich.text import Text

        counts = {} if self._page is None else self._page.counts
        summary = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        drained = "; no job starts (drained)" if self._drained is not None else ""
        return Text(
            printable(f"{self._workspace.root}: {summary or 'no jobs'}{drained}"), style="bold"
        )

    def _queue(self, room: int) -> "Text":
        from rich.text import Text

        jobs = [] if self._page is None else self._page.jobs
        at = next((i for i, job in enumerate(jobs) if job.name == self._chosen), 0)
        begin = max(0, min(at - room // 2, len(jobs) - room))
        lines = Text(no_wrap=True, overflow="ellipsis")
        for job in jobs[begin : begin + room]:
            style = "reverse" if job.name == self._chosen else _COLOURS.get(job.state, "")
            lines.append(printable(f"{job.state:<9} {job.name:<28} {_short(job)}"), style=style)
            lines.append("\n")
        return lines

    def _job(self, job: JobReport) -> "Text":
        from rich.text import Text

        lines = Text(no_wrap=True, overflow="ellipsis")
        done = sum(step.get("state") in ("done", "reused") for step in job.steps)
        steps = f", {done} of {len(job.steps)} steps" if job.steps else ""
        lines.append(printable(f"{job.state}{steps}: {_short(job)}".removesuffix(": ")))
        lines.append("\n")
        for name, values in self._newest_curves(job.name):
            top, bottom = braille(values, 40, 2)
            text = (
                f"{top}\n{bottom}  {name} {values[-1]:.4g} ({min(values):.4g} to {max(values):.4g})"
            )
            lines.append(f"{text}\n", style="cyan")
        return lines

    def _newest_curves(self, job: str) -> Iterator[tuple[str, list[float]]]:
        curves = self._curves.of(job)
        steps = curves.steps()
        if not steps:
            return
        step, keys = next(reversed(steps.items()))
        wanted = [key for key in keys if key.startswith("loss_")] + ["score", "images_per_second"]
        for key in [key for key in wanted if key in keys][:_CURVES]:
            values = curves.curve(step, key)[1]
            if values:
                yield printable(key), values

    def _log(self, job: JobReport, lines: int) -> "Text":
        from rich.text import Text

        path = self._workspace.runs / job.name / LOG
        try:
            text, _ = read_log(path, -_LOG_BYTES, _LOG_BYTES)
        except (UserError, OSError):
            text = b""
        last = text.rstrip(b"\n").split(b"\n")[-max(4, lines - 14 if self._only else lines // 3) :]
        return Text("\n".join(map(printable_log, last)), no_wrap=True, overflow="ellipsis")

    def _foot(self) -> "Text":
        from rich.text import Text

        keys = "  ".join(f"{key} {what}" for key, what in KEYS.items())
        return Text(printable(self._message) if self._message else keys, style="dim")


def show_live(workspace: Workspace, wanted: Wanted, only: str | None = None) -> JobReport | None:
    """Draw until the user leaves or the watched job has ended; returns that job's final state.

    ``KeyboardInterrupt`` after Ctrl-C; SIGTERM ends the process. The terminal is restored first.
    """
    from rich.console import Console
    from rich.live import Live

    view = LiveView(workspace, wanted, only)
    view.look()
    console = Console(highlight=False, markup=False, no_color=bool(os.environ.get("NO_COLOR")))
    with (
        _ending_orderly(),
        _keys() as key,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(view.draw(*console.size), refresh=True)
            pressed = key(LOOK_SECONDS)
            if pressed is not None and not view.press(pressed):
                return None
            view.look()
            if only is not None and (job := view.job) is not None and over(job):
                return job
    return None


@contextmanager
def _ending_orderly() -> Iterator[None]:
    """SIGTERM ends the process after the block."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _keys() -> Iterator[Callable[[float], str | None]]:
    """Yields a function that waits up to the given seconds for a pressed key."""
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    waiting: list[str] = []

    def key(seconds: float) -> str | None:
        if not waiting and select.select([file], [], [], seconds)[0]:
            waiting.extend(_pressed(os.read(file, 256)))
        return waiting.pop(0) if waiting else None

    try:
        tty.setcbreak(file)
        yield key
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _pressed(read: bytes) -> list[str]:
    """The keys in the terminal's input; if the terminal is gone, the key that leaves."""
    for arrow, key in _ARROWS.items():
        read = read.replace(arrow, key)
    return [chr(byte) for byte in read] or ["q"]


def _short(job: JobReport) -> str:
    """The progress and duration of a job, or what it waits for."""
    progress: dict[str, Any] = job.progress or {}
    parts = [str(progress.get("step", ""))] if progress and not job.state.ended else []
    parts += progress_words(progress) if parts else []
    left = number(progress, "job_seconds_left")
    if parts and left is not None and not any("the job" in word for word in parts):
        parts.append(f"about {spoken(left)} left")
    why = job.waiting_for or job.stalled or job.reason or ""
    return ", ".join(filter(None, [*parts, why]))


def _do(workspace: Workspace, verb: str, job: str) -> None:
    from distill.daemon import client, stopping
    from distill.daemon.service import QueueEnd

    match verb:
        case "pause":
            stopping.pause(workspace, [job])
        case "resume":
            client.resume(workspace, [job])
        case "retry":
            client.retry(workspace, [job])
        case "cancel":
            stopping.cancel(workspace, [job], False)
        case "drain":
            client.drain(workspace)
        case "undrain":
            client.undrain(workspace)
        case _:
            client.move(workspace, job, QueueEnd(verb), None)
