"""The run directory ``runs/JOB/``, the source of everything that is displayed about a job."""

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import DISK_ERRORS, atomic_file, write_reserved
from curation.json_text import as_json
from curation.progress import Pace, seconds_left
from distill import __version__
from distill.fence import Displaced, check_fence
from distill.notices import Notice
from distill.pipeline.peak_memory import PeakMemory
from distill.pipeline.steps import StepBusy
from distill.run_directory import (
    FAILURE,
    METRICS,
    PROGRESS,
    RESOLVED,
    STEPS,
    WAITING,
    WARNINGS,
    StepState,
)
from distill.signals import RankLost, Stopped
from distill.software import code_on_disk, versions
from distill.spec import JobSpec

_NO_MEMORY = re.compile(
    "out of memory|can(?:'t|not) allocate memory|can't start new thread", re.IGNORECASE
)
"""Torch's error texts on a GPU and on the CPU"""
PROGRESS_INTERVAL = 0.25
"""Minimum seconds between two updates of progress.json"""


@dataclass(frozen=True)
class StepEvent:
    """An event of a step, for an observer such as a terminal.

    ``kind``: begin, note, wait, progress, metrics, warning, end, or skip. The values of a note, a
    wait, an end and a skip are those of ``StepState``, the values of a warning those of ``Notice``.
    """

    kind: str
    step: str
    values: dict[str, Any] = field(default_factory=dict)


Observer = Callable[[StepEvent], None]


class RunRecord:
    """Writes a run directory. ``stop`` tells whether the job was asked to stop.

    Writing raises ``Displaced`` if another attempt of the job has begun.
    """

    def __init__(
        self,
        folder: Path,
        observer: Observer = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
        sum_over_ranks: Callable[[int], int] = lambda count: count,
    ) -> None:
        self.folder = folder
        self.observer = observer
        self.stop = stop
        self.sum_over_ranks = sum_over_ranks
        self.steps: list[StepState] = []
        self.warnings: list[dict[str, str]] = []
        self._current = ""
        self._pace = Pace()
        self._written = 0.0
        self._open()

    def _open(self) -> None:
        """Create the folder and remove the final state of an earlier attempt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        check_fence()
        for of_before in (FAILURE, WAITING):
            (self.folder / of_before).unlink(missing_ok=True)

    def begin(self, spec: JobSpec, steps: list[StepState], facts: dict[str, Any]) -> None:
        """Write resolved.json (every default filled in, versions, digests) and the plan."""
        self.steps = steps
        self.write_json(WARNINGS, self.warnings)
        resolved = {
            "spec": spec.model_dump(mode="json", by_alias=True),
            "versions": {"face-distill": __version__, **versions()},
            "git_commit": code_on_disk().commit,
            **facts,
        }
        self.write_json(RESOLVED, resolved)
        self._write_steps()

    @contextmanager
    def step(self, name: str) -> Iterator[StepState]:
        """Mark a step running, then done or (if the block says so) reused; with time and memory."""
        state = self._state(name)
        state.state, self._current, self._pace = "running", name, Pace()
        self._write_steps()
        self.observer(StepEvent("begin", name))
        started = time.monotonic()
        memory = PeakMemory()
        try:
            with memory:
                yield state
        except BaseException:
            state.state = "waiting"
            raise
        else:
            state.state = "done" if state.state == "running" else state.state
            state.seconds = round(time.monotonic() - started, 2)
            memory.bytes = self.sum_over_ranks(memory.bytes)
        finally:
            state.peak_memory_bytes, state.peak_gpu_memory_bytes = memory.bytes, memory.gpu_bytes
            self._write_steps()
        self.observer(StepEvent("end", name, asdict(state)))

    def skip(self, names: Collection[str], reason: str) -> None:
        """Mark these steps as skipped."""
        for state in self.steps:
            if state.name in names:
                state.state, state.note = "skipped", reason
                self.observer(StepEvent("skip", state.name, asdict(state)))
        self._write_steps()

    def metrics(self, values: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        line = {"step": self._current, "time": round(time.time(), 3), **values}
        self._append(METRICS, as_json(line) + "\n")
        self.observer(StepEvent("metrics", self._current, values))

    def warn(self, notice: Notice) -> None:
        """Add a notice about the current step to warnings.json, and report it once."""
        warning = {"step": self._current, **asdict(notice)}
        recorded = [(each["step"], each["key"]) for each in self.warnings]
        if (self._current, notice.key) not in recorded:
            self.warnings.append(warning)
            self.write_json(WARNINGS, self.warnings)
            self.observer(StepEvent("warning", self._current, asdict(notice)))

    def note(self, text: str) -> None:
        """Note something about the current step before it is done."""
        state = self._state(self._current)
        state.note = text
        self._write_steps()
        self.observer(StepEvent("note", self._current, asdict(state)))

    def wait_for(self, step: Path, job: str | None) -> None:
        """Report once that another process is doing the step; ``Stopped`` if asked to stop."""
        note = f"waits for {f'job {job}' if job else 'another process'}, which runs the same step"
        state = self._state(self._current)
        if state.note != note:
            state.note = note
            self._write_steps()
            self.observer(StepEvent("wait", self._current, asdict(state)))
        if self.stop():
            raise Stopped

    def gave_way(self, busy: StepBusy) -> None:
        """Record in waiting.json which step of another job this job needs."""
        waiting = {"step": busy.step.name, "name": self._current, "job": busy.job}
        self.write_json(WAITING, waiting)

    def progress(self, done: int, total: int) -> None:
        """Report how many images of the current step are done; rate-limited on disk."""
        self._pace.mark(done)
        speed = self._pace.per_second
        left = remaining(self.steps, self._current, done, total, speed)
        values = {"done": done, "total": total, **left}
        self.observer(StepEvent("progress", self._current, values))
        now = time.monotonic()
        if now - self._written >= PROGRESS_INTERVAL or done == total:
            self._written = now
            report = {"step": self._current, "time": round(time.time(), 3), **values}
            self.write_json(PROGRESS, report)

    def interruptible_progress(self, done: int, total: int) -> None:
        """``progress`` for work that keeps partial results; raises ``Stopped`` when asked to."""
        self.progress(done, total)
        if self.stop():
            raise Stopped

    def write_json(self, name: str, value: Any) -> None:
        """Replace ``name`` atomically."""
        check_fence()
        with atomic_file(self.folder / name) as file:
            file.write(as_json(value, indent=2).encode())

    def _append(self, name: str, line: str) -> None:
        check_fence()
        with (self.folder / name).open("a") as file:
            file.write(line)

    def link(self, name: str, target: Path) -> None:
        """Create a link ``name`` in the run directory to a step's result elsewhere."""
        check_fence()
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.link")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.path.relpath(target, path.parent))
        fresh.replace(path)

    def _state(self, name: str) -> StepState:
        return next(step for step in self.steps if step.name == name)

    def _write_steps(self) -> None:
        self.write_json(STEPS, [asdict(step) for step in self.steps])


class SilentRecord(RunRecord):
    """The record of a rank other than 0: it has the same steps and writes nothing."""

    def _open(self) -> None:
        pass

    def _append(self, name: str, line: str) -> None:
        pass

    def write_json(self, name: str, value: Any) -> None:
        pass

    def link(self, name: str, target: Path) -> None:
        pass


def write_failure(folder: Path, error: Exception) -> None:
    """Write in one sentence why the job ended, if the disk has room.

    A lost rank is reported only if no rank has recorded another reason.
    """
    if isinstance(error, RankLost) and (folder / FAILURE).exists():
        return
    reason, hint = failure(error, folder)
    record = {"reason": reason, "hint": hint, "out_of_memory": is_out_of_memory(error)}
    content = as_json(record).encode()
    with suppress(OSError, Displaced):  # the original error matters more
        check_fence()
        write_reserved(folder / FAILURE, content)


def failure(error: Exception, folder: Path) -> tuple[str, str | None]:
    """The reason and a hint, for a job that runs in ``folder``."""
    if isinstance(error, UserError):
        return str(error), None
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        where = error.filename or folder
        reason = f"the disk cannot be written: {error.strerror} ({where})"
        return reason, "free disk space and submit again: it continues from its last checkpoint"
    if is_out_of_memory(error):
        return "no memory left", "lower train.batch_size and submit again"
    return f"{type(error).__name__}: {error}", "log.txt has the traceback"


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, torch, CUDA or the system ran out of memory."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def remaining(
    steps: Sequence[StepState], current: str, done: int, total: int, per_second: float | None
) -> dict[str, float | None]:
    """The speed in images per second, and the estimated seconds left of the step and the job.

    Waiting trainings are assumed to be as fast as the last one of their kind. Evaluation and
    export, which are short, are not counted. ``None`` means that there is no estimate.
    """
    left = seconds_left(done, total, per_second)
    speeds = {
        step.kind: step.images / step.seconds
        for step in steps
        if step.state == "done" and step.images and step.seconds
    }
    speeds |= {step.kind: per_second for step in steps if step.name == current and per_second}
    whole = left
    for step in steps:
        if whole is not None and step.state == "waiting" and step.images:
            rest = seconds_left(0, step.images, speeds.get(step.kind))
            whole = None if rest is None else whole + rest
    return {"per_second": per_second, "seconds_left": left, "job_seconds_left": whole}
