"""The steps of a running job: a line at the end of each, and the progress of the current one."""

from collections.abc import Mapping
from typing import Any

from curation.progress import spoken
from distill.cli.display import Display, counted, took

UNIT = "images"


def ended_line(step: Mapping[str, Any]) -> str:
    """``teach: done in 2 min; NOTE``."""
    time = f" in {took(seconds)}" if (seconds := number(step, "seconds")) is not None else ""
    note = step.get("note")
    remark = f"; {note}" if isinstance(note, str) else ""
    return f"{step.get('name')}: {step.get('state')}{time}{remark}"


def show_progress(
    display: Display, step: str, progress: Mapping[str, Any], metrics: Mapping[str, Any]
) -> None:
    """Show the step's progress, the time left for step and job, and the newest losses."""
    done, total = number(progress, "done") or 0.0, number(progress, "total") or 0.0
    details = [*progress_words(progress), *_losses(metrics)]
    display.show(step, done, total, details)


def progress_words(progress: Mapping[str, Any]) -> list[str]:
    """The contents of ``progress.json`` in words."""
    done, total = number(progress, "done"), number(progress, "total")
    if done is None or total is None:
        return []
    parts = counted(done, total, UNIT, number(progress, "per_second"))
    step, job = number(progress, "seconds_left"), number(progress, "job_seconds_left")
    if job is not None and step is not None and job > step:
        parts.append(f"the job about {spoken(job)}")
    return parts


def number(values: Mapping[str, Any], key: str) -> float | None:
    """A number from an untrusted record; ``None`` for anything else."""
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e18:
        return None
    return float(value)


def _losses(metrics: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} {value:.4g}"
        for key, value in metrics.items()
        if isinstance(value, int | float) and (key.startswith("loss_") or key == "score")
    ]
