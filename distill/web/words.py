"""Texts about jobs on the pages."""

from datetime import UTC, datetime

from markupsafe import Markup, escape

from curation.printable import printable
from curation.progress import spoken
from curation.wording import number
from distill.daemon.reports import JobReport
from distill.daemon.states import State


def doing(job: JobReport) -> str:
    """The activity of a running job, what a queued job waits for, or why a job ended."""
    if job.state is State.RUNNING:
        return "; ".join(filter(None, [_progress(job), job.waiting_words, job.stalled]))
    if job.state is State.QUEUED:
        return job.waiting_words
    return "; ".join(filter(None, [job.reason, job.hint]))


def _progress(job: JobReport) -> str:
    """``generation 1 stage 1, 1,200 of 9,000 images, 310 a second``."""
    running = [step["name"] for step in job.steps if step["state"] == "running"]
    progress = job.progress
    if progress is None or not running or progress["step"] != running[0]:
        return str(running[0]) if running else job.reason or "starting"
    parts = [str(running[0]), f"{number(progress['done'])} of {number(progress['total'])} images"]
    if (speed := progress.get("per_second")) is not None:
        parts.append(f"{number(round(speed, 1 if speed < 10 else 0))} a second")
    return ", ".join(parts)


def left(job: JobReport) -> str:
    """The remaining time, or the duration of an ended job."""
    if job.state is State.RUNNING and job.progress is not None:
        seconds = job.progress.get("job_seconds_left") or job.progress.get("seconds_left")
        return "" if seconds is None else f"about {spoken(seconds)}"
    if job.state.ended and job.started_at and job.finished_at:
        took = datetime.fromisoformat(job.finished_at) - datetime.fromisoformat(job.started_at)
        return f"took {spoken(max(took.total_seconds(), 0))}"
    return ""


def clock(time: str) -> str:
    """An ISO 8601 time in UTC as ``2026-11-30 02:01:35 UTC``."""
    return time.replace("T", " ").replace("+00:00", " UTC")


def code(text: str) -> Markup:
    """Escaped text, with the commands between backticks as ``<code>``."""
    parts = map(printable, text.split("`"))
    command = Markup("<code>{}</code>")
    return Markup().join(
        command.format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def ago(time: str, now: datetime | None = None) -> str:
    """An ISO 8601 time relative to now."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(time)).total_seconds()
    return f"{spoken(max(seconds, 0))} ago"
