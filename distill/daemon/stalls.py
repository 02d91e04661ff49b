"""Detection of silent jobs: a running job keeps changing its records and logs."""

import time
from pathlib import Path

from distill.daemon.demand import resources_in
from distill.run_directory import LOG, METRICS, PROGRESS, RANKS, STEPS


def signs_of_life(run: Path) -> tuple[tuple[int, int], ...]:
    """Size and time (nanoseconds) of every file that a working job updates repeatedly."""
    files = [run / name for name in (PROGRESS, LOG, METRICS, STEPS)]
    found = []
    for file in [*files, *sorted((run / RANKS).glob("*.txt"))]:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def stall(run: Path, spec: str) -> str | None:
    """A message if a job has been silent for longer than its spec allows, else ``None``."""
    minutes = resources_in(spec).stall_minutes
    if minutes is None:
        return None
    newest = max((time for _, time in signs_of_life(run)), default=None)
    silent = 0.0 if newest is None else (time.time() - newest / 1e9) / 60
    if silent < minutes:
        return None
    told, allowed = in_minutes(silent), in_minutes(minutes)
    return f"it has shown no sign of life for {told} (resources.stall_minutes: {allowed})"


def in_minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 1 else f"{minutes * 60:.0f} s"
