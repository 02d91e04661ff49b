"""Steps addressed by their inputs: ``steps/KIND-ID/``, where ID is a digest of the inputs.

A step is done when its folder has a ``result.json``, which is written last. Only one process at a
time computes a step; others that need it are told so, and later find it done.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import as_json, read_json
from curation.locks import take
from distill.fence import check_fence
from distill.spec_source import NAME_PATTERN

RESULT, INPUTS, LOCK = "result.json", "inputs.json", "lock"
VERSION = 1
"""Incremented when a step would give a different result from the same inputs."""
_LARGEST_RESULT = 64 << 20  # bytes
_LONGEST_NAME = 200
_LOOK_SECONDS = 0.05
_BUSY_SECONDS = 1.0
"""How long a step must be locked to count as busy: others hold the lock for an instant to look."""

Busy = Callable[[Path, str | None], None]
"""Called repeatedly with the folder of a step that another process works on, and that process's
job if known. Raising an exception ends the wait."""


class StepBusy(Exception):  # noqa: N818 - not an error: the step will exist later
    """Another process is doing the step ``step``; ``job`` is its job, if known."""

    def __init__(self, step: Path, job: str | None) -> None:
        super().__init__(step, job)  # makes it picklable for other ranks
        self.step, self.job = step, job

    def __str__(self) -> str:
        return f"{self.step} is being run by {self.job or 'another process'}"


def give_way(step: Path, job: str | None) -> None:
    """A ``Busy`` that does not wait."""
    raise StepBusy(step, job)


T = TypeVar("T")


class OnFirst(Protocol):
    """Calls a function on rank 0 and returns its result on all ranks."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


def _here(work: Callable[[], T], /) -> T:
    """An ``OnFirst`` for a single process."""
    return work()


@dataclass(frozen=True)
class StepOutcome:
    """The outcome of a step: its folder, its result, and whether it had been done before."""

    folder: Path
    result: dict[str, Any]
    reused: bool


class StepStore:
    """All steps of a workspace."""

    def __init__(self, root: Path, job: str = "", busy: Busy = give_way) -> None:
        """Other processes see ``job`` as the holder of a step; ``busy`` handles their steps."""
        self.root, self.job, self.busy = root, job, busy

    def perform(
        self,
        kind: str,
        inputs: dict[str, Any],
        work: Callable[[Path], dict[str, Any]],
        on_first: OnFirst = _here,
    ) -> StepOutcome:
        """The outcome of ``work(folder)`` for these inputs, reused if it exists.

        ``inputs`` must be JSON and determine the result. ``work`` may find the folder of a stopped
        attempt; it returns the result, which must be JSON. If all ranks do the work, pass
        ``distributed.on_first_rank`` as ``on_first``: rank 0 holds the step for all.
        """
        folder = self.folder(kind, inputs)
        with ExitStack() as held:

            def begin() -> dict[str, Any] | None:
                held.enter_context(self._held(folder))
                result = _read(folder / RESULT)
                if result is None:
                    _write(folder / INPUTS, inputs)
                return result

            result = on_first(begin)
            if result is not None:
                return StepOutcome(folder, result, reused=True)
            made = work(folder)
            on_first(lambda: _write(folder / RESULT, made))
        return StepOutcome(folder, made, reused=False)

    @contextmanager
    def _held(self, folder: Path) -> Iterator[None]:
        """Create the folder if necessary and hold its lock, which ends with the process."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
        try:
            self._wait_for(lock, folder)
            if not _is_at(lock, folder / LOCK):  # the step was removed meanwhile
                with self._held(folder):
                    yield
                return
            with suppress(OSError):  # full disk: others cannot see which job holds the step
                os.ftruncate(lock, 0)
                os.pwrite(lock, self.job.encode(), 0)
            yield
        finally:
            os.close(lock)

    def _wait_for(self, lock: int, folder: Path) -> None:
        wait = _BUSY_SECONDS
        while True:
            try:
                return take(lock, wait)
            except BlockingIOError:
                self.busy(folder, _holder(lock))
            wait = _LOOK_SECONDS

    def folder(self, kind: str, inputs: dict[str, Any]) -> Path:
        """The folder of the step with these inputs, done or not."""
        text = json.dumps([VERSION, kind, inputs], sort_keys=True)
        return self.root / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one with that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(lock: int) -> str | None:
    """The job that holds the lock, as written in the lock file."""
    name = os.pread(lock, _LONGEST_NAME, 0).decode(errors="replace")
    return name if re.fullmatch(NAME_PATTERN, name) else None


def _read(path: Path) -> dict[str, Any] | None:
    again = f"remove {path.parent} and run again to repeat that step"
    if not os.path.lexists(path):
        return None
    try:
        result = read_json(path, _LARGEST_RESULT)
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    if not isinstance(result, dict):
        raise UserError(f"{path} is damaged: not a JSON object; {again}")
    return result


def _write(path: Path, value: dict[str, Any]) -> None:
    check_fence()
    with atomic_file(path) as file:
        file.write(as_json(value, indent=2).encode())
