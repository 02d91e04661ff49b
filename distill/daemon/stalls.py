"""Detection of silent jobs: a running job keeps changing its records and logs.

The runner measures the silence by a monotonic clock and records it. The times of files are only
compared with each other: a wall clock that is set while a job runs, or that differs between
machines, neither makes nor hides a stall.
"""

from collections.abc import Callable
from pathlib import Path

from distill.daemon.attempts import Attempt
from distill.daemon.demand import resources_in
from distill.daemon.records import StallRecord
from distill.daemon.runfolder import remove_record, write_whole
from distill.run_directory import LOG, METRICS, PROGRESS, RANKS, STALL, STEPS, found


class Silence:
    """How long a run directory has not changed, by ``clock`` (seconds, monotonic)."""

    def __init__(self, run: Path, clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._seen: object = None
        self._seen_at = clock()

    def minutes(self) -> float:
        """Minutes since the last call that found a change."""
        if (seen := _signs_of_life(self._run)) != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        return (self._clock() - self._seen_at) / 60


class StallNote:
    """The runner's record of a stall (``stall.json``), which exists while the job is silent."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._written: str | None = None

    def update(self, silent: float, allowed: float) -> None:
        """Record that the job has been silent for ``silent`` minutes, if that is too long."""
        note = in_minutes(silent) if silent >= allowed else None
        if note == self._written:
            return
        place = self._attempt.run / STALL
        if note is None:
            remove_record(place)
        else:
            record = StallRecord(attempt=self._attempt.number, id=self._attempt.id, minutes=silent)
            write_whole(place, record.model_dump_json(), durable=False)
        self._written = note


def stall(attempt: Attempt, spec: str) -> str | None:
    """A message if a job has been silent for longer than its spec allows, else ``None``."""
    allowed = resources_in(spec).stall_minutes
    if allowed is None:
        return None
    record = found(attempt.run / STALL, StallRecord)
    if record is None or (record.attempt, record.id) != (attempt.number, attempt.id):
        return None
    note = f"it has shown no sign of life for {in_minutes(record.minutes)}"
    return f"{note} (resources.stall_minutes: {in_minutes(allowed)})"


def in_minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 1 else f"{minutes * 60:.0f} s"


def _signs_of_life(run: Path) -> tuple[tuple[int, int], ...]:
    """Size and time (nanoseconds) of every file that a working job updates repeatedly."""
    files = [run / name for name in (PROGRESS, LOG, METRICS, STEPS)]
    states = []
    for file in [*files, *sorted((run / RANKS).glob("*.txt"))]:
        try:
            status = file.stat()
        except OSError:
            continue
        states.append((status.st_size, status.st_mtime_ns))
    return tuple(states)
