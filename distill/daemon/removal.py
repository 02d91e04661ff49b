"""Removing jobs from the queue, with the files that only they use.

A step is removed if no remaining run folder uses it, whether in the queue or not. Folders are
renamed before they are deleted, so that no process sees a partial one. The next removal deletes
what a killed one left.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.locks import held
from curation.workspace import Workspace
from distill.daemon.queue import Queue
from distill.daemon.refusals import ConflictError, unknown_job
from distill.daemon.runfolder import in_use
from distill.daemon.states import State
from distill.pipeline.steps import LOCK
from distill.run_directory import (
    BUNDLE,
    CHECKPOINTS,
    EVALUATION,
    PROVENANCE,
    SPEC,
    STEP_PATTERN,
    STEPS,
    StepRecords,
    damage,
    read_steps,
)
from distill.spec_source import check_name

_GONE = ".removed-"
"""Prefix of folders that are about to be deleted"""
_KEPT = (SPEC, PROVENANCE, BUNDLE, EVALUATION)
"""What remains of a run folder if its bundle is kept, because the bundle may be a teacher"""
_AT_ONCE = 200
"""Steps locked at a time; a process has about a thousand file descriptors."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What a removal removed, or would remove."""

    jobs: tuple[str, ...]
    bundles_kept: tuple[str, ...]
    """Jobs whose run folder is reduced to its bundle"""
    steps: int
    """Folders in ``steps/``"""
    bytes: int
    """Disk space"""


def remove(
    workspace: Workspace,
    queue: Queue,
    names: Iterable[str],
    *,
    bundles: bool = False,
    dry: bool = False,
) -> Removed:
    """Remove jobs, and run folders that are in no queue: all of them or none.

    A job must have ended, or be queued without having run, and no remaining job may depend on it.
    Bundles are kept unless ``bundles`` is set. With ``dry`` nothing is changed. Raises
    ``ConflictError`` if a job cannot be removed, ``UnknownJobError`` if a name is unknown.
    """
    removal = _Removal(workspace, queue, tuple(dict.fromkeys(map(check_name, names))), bundles)
    removal.check()
    removed = removal.report()
    if not dry:
        removal.do()
    return removed


class _Removal:
    """One removal; call ``check`` first."""

    def __init__(
        self, workspace: Workspace, queue: Queue, names: tuple[str, ...], bundles: bool
    ) -> None:
        self._runs, self._steps = workspace.runs, workspace.steps
        self._workspace, self._queue, self._names = workspace, queue, names
        runs = [self._runs / name for name in names]
        self._pruned = {run for run in runs if not bundles and (run / BUNDLE).is_dir()}
        self._whole = {run for run in runs if os.path.lexists(run)} - self._pruned

    def check(self) -> None:
        """Raise ``ConflictError`` or ``UnknownJobError`` if one of the jobs cannot be removed."""
        for name in self._names:
            self._check_state(name)
            for other in self._queue.dependants(name):
                if not other.state.ended and other.name not in self._names:
                    raise ConflictError(
                        f"job {other.name!r} starts after {name!r}; remove that one too, or "
                        f"`distill cancel {other.name}` first"
                    )
            if in_use(self._runs / name):
                raise ConflictError(
                    f"the run folder of {name!r} is in use; wait until its job has ended"
                )

    def _check_state(self, name: str) -> None:
        job = self._queue.job(name)
        if job is None:
            if not os.path.lexists(self._runs / name):
                raise unknown_job(name, self._queue.names(), self._workspace)
        elif job.state is State.RUNNING or (job.state is State.QUEUED and job.attempt > 0):
            ran = "is running" if job.state is State.RUNNING else "is queued again after it ran"
            raise ConflictError(f"job {name!r} {ran}; `distill cancel {name}` first")

    def report(self) -> Removed:
        """What would be removed."""
        steps = self._unused(self._candidates())
        pruned = [path for run in self._pruned for path in _prunable(run)]
        folders = [*self._whole, *pruned, *steps]
        return Removed(
            jobs=self._names,
            bundles_kept=tuple(sorted(run.name for run in self._pruned)),
            steps=len(steps),
            bytes=sum(map(_size, folders)),
        )

    def do(self) -> None:
        candidates = self._candidates()
        runs, steps = list(_left_over(self._runs)), list(_left_over(self._steps))
        with ExitStack() as undone:
            with self._queue.exclusive():
                self.check()  # again: a job may have been started meanwhile
                self._queue.forget(self._names)
                for run in self._whole:
                    runs.append(_rename(run))
                    undone.callback(runs[-1].rename, run)
            undone.pop_all()  # committed
        for run in self._pruned:
            self._prune(run)
        for begin in range(0, len(candidates), _AT_ONCE):
            steps += self._take(candidates[begin : begin + _AT_ONCE])
        for path in [*steps, *runs]:  # runs last, because they list their steps
            _delete(path)

    def _prune(self, run: Path) -> None:
        """Delete everything but the bundle, unless the job was just submitted again."""
        with self._queue.exclusive():
            if self._queue.job(run.name) is None and not in_use(run):
                for path in _prunable(run):
                    _delete(path)

    def _candidates(self) -> list[Path]:
        """The steps of the run folders to remove, including those left by a killed removal."""
        going = [*self._whole, *self._pruned, *_left_over(self._runs)]
        used = {step for run in going for step in _used(run, self._steps)}
        return sorted(self._steps / step for step in used if (self._steps / step).is_dir())

    def _unused(self, steps: Sequence[Path]) -> list[Path]:
        """Those that no remaining run folder uses."""
        if not steps:
            return []
        staying = {step for run in self._pruned for step in _linked([run / BUNDLE], self._steps)}
        for run in self._runs.iterdir():
            if run not in self._whole | self._pruned and not run.name.startswith(_GONE):
                staying |= _used(run, self._steps)
        return [step for step in steps if step.name not in staying]

    def _take(self, steps: Sequence[Path]) -> list[Path]:
        """Rename the unused steps; a step that a job is doing is locked and stays."""
        with ExitStack() as locks:
            free = []
            for step in steps:
                with suppress(BlockingIOError, FileNotFoundError):
                    locks.enter_context(held(step / LOCK))
                    free.append(step)
            # Checked with the locks held: a job records a step before it asks for the lock.
            return [_rename(step) for step in self._unused(free)]


def _prunable(run: Path) -> list[Path]:
    """What is removed from a run folder whose bundle is kept."""
    return [path for path in run.iterdir() if path.name not in _KEPT]


def _used(run: Path, steps: Path) -> set[str]:
    """The names of the steps that a run folder uses; ``UserError`` if it cannot be read."""
    if (why := damage(run / STEPS, StepRecords)) is not None:
        raise UserError(
            f"the steps that {run.name!r} uses are unknown ({run / STEPS}: {why}); "
            f"`distill remove {run.name}` first, or move that file away"
        )
    listed = {str(step.get("id")) for step in read_steps(run)}
    folder = run / CHECKPOINTS
    links = [run / BUNDLE, *(folder.iterdir() if folder.is_dir() else ())]
    return {name for name in listed if re.fullmatch(STEP_PATTERN, name)} | _linked(links, steps)


def _linked(links: Iterable[Path], steps: Path) -> set[str]:
    """The steps that these links point to."""
    root, found = steps.resolve(), set()
    for link in links:
        with suppress(OSError, RuntimeError):  # a link loop
            target = link.resolve()
            if target != root and target.is_relative_to(root):
                found.add(target.relative_to(root).parts[0])
    return found


def _rename(folder: Path) -> Path:
    """Rename a folder, locked until then, to a name that no process uses."""
    gone = folder.with_name(f"{_GONE}{folder.name}")
    if os.path.lexists(gone):
        _delete(gone)
    folder.rename(gone)
    return gone


def _left_over(root: Path) -> Iterator[Path]:
    """What a killed removal did not delete."""
    return root.glob(f"{_GONE}*")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_unless_gone)
    else:
        path.unlink(missing_ok=True)


def _unless_gone(function: object, path: str, error: tuple[type, BaseException, object]) -> None:
    """Ignore files that another removal has deleted."""
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def _size(path: Path) -> int:
    """The disk usage of a file or folder in bytes, without following links."""
    try:
        total = path.lstat().st_blocks * 512
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as entries:
                total += sum(_size(Path(entry.path)) for entry in entries)
    except FileNotFoundError:
        return 0
    return total
