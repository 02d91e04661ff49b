"""What holds a run directory and the records of its attempts: the frozen spec, the lock, the end.

Every record is written whole or not at all.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from curation.errors import UserError
from curation.files import (
    atomic_file,
    read_whole,
    release,
    reserve,
    sync_file,
    sync_folder,
    write_reserved,
)
from curation.locks import held, is_held
from distill.daemon.attempts import Attempt
from distill.daemon.processes import ProcessIdentity
from distill.daemon.records import ExitRecord, PendingRecord, RunnerRecord
from distill.run_directory import (
    EXIT,
    FAILURE,
    HALVED,
    PENDING,
    PROVENANCE,
    RUNNER,
    SPEC,
    Halved,
    found,
    one_line,
    read_halved,
)

OLD_RUN = ".old-"
"""In the name of a folder that was set aside for another spec."""

_RECORD_BYTES = 4096
_LARGEST_SPEC = 1 << 20  # bytes; more than a submit takes


class FolderInUseError(UserError):
    """Another process works in the run folder."""


@contextmanager
def locked(run: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the folder alone; ``FolderInUseError`` where somebody else does for ``wait`` seconds.

    The lock is on the folder itself: it lasts as long as the process, and moves with a rename.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(run, wait))
        except BlockingIOError:
            raise FolderInUseError(
                f"the run folder {run} is in use by another process; wait for that process or stop "
                f"it"
            ) from None
        yield


def in_use(run: Path) -> bool:
    """Whether some process holds the folder."""
    return is_held(run)


def write_whole(path: Path, text: str, durable: bool = True) -> None:
    """Replace ``path`` so that a crash at any moment leaves the old text or the new one.

    A power cut may leave neither if it need not be ``durable``.
    """
    _set_folder_aside(path)
    with atomic_file(path, durable) as file:
        file.write(text.encode())


def remove_record(path: Path) -> None:
    """Take a record away; a folder in its place, which is nobody's, is set aside."""
    _set_folder_aside(path)
    path.unlink(missing_ok=True)


def _set_folder_aside(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(unused_name(path))


def frozen_spec(run: Path) -> str | None:
    """The spec that the folder belongs to; ``None`` where there is none.

    ``UnreadableError`` where something else has its name.
    """
    path = run / SPEC
    if not os.path.lexists(path):
        return None
    return read_whole(path, _LARGEST_SPEC).decode(errors="replace")


def freeze_spec(run: Path, spec: str, durable: bool = True) -> None:
    """Make ``run`` the folder of this spec; safe to repeat after a crash at any moment.

    Where it is to be repeated anyway, it need not be ``durable``: the disk is not waited for.

    A folder of the same spec stays as it is, so its finished steps are not done again. A folder
    of another spec is set aside as ``JOB.old-N``, never deleted.
    """
    present = frozen_spec(run)
    if present == spec:
        if durable:
            sync_file(run / SPEC)
        return
    if present is not None:
        _set_aside(run)
    run.mkdir(parents=True, exist_ok=True)
    write_whole(run / SPEC, spec, durable)


def freeze_provenance(run: Path, provenance: str | None, durable: bool = True) -> None:
    """Let the folder, which is there, say where the job comes from, as the queue has it."""
    if provenance is not None:
        write_whole(run / PROVENANCE, provenance, durable)


def _set_aside(run: Path) -> None:
    with locked(run, wait=1.0):
        run.rename(unused_name(run))
    sync_folder(run.parent)


def unused_name(path: Path) -> Path:
    """The first of ``NAME.old-N`` that is free, for what is set aside."""
    number = 1
    while (aside := path.with_name(f"{path.name}{OLD_RUN}{number}")).exists():
        number += 1
    return aside


def begins_after(attempt: Attempt) -> str:
    """What a runner must find in the folder to begin the attempt: the name of the one before.

    Empty where there was none.
    """
    newest = read_runner_record(attempt.run)
    return "" if newest is None else newest.name


def write_runner_record(attempt: Attempt, runner: ProcessIdentity | None) -> None:
    """Make this the newest attempt in its folder; without a runner it never begins."""
    record = RunnerRecord(attempt=attempt.number, id=attempt.id, runner=runner)
    write_whole(attempt.run / RUNNER, record.model_dump_json())


def keep_halved(run: Path, reason: str | None) -> None:
    """Say why the job takes each batch in twice as many parts; ``None`` where it does not."""
    if reason is None:
        remove_record(run / HALVED)
    elif (told := Halved(reason=reason)) != read_halved(run):
        write_whole(run / HALVED, told.model_dump_json())


def read_runner_record(run: Path) -> RunnerRecord | None:
    return found(run / RUNNER, RunnerRecord)


def own_runner_record(attempt: Attempt) -> RunnerRecord | None:
    """The record of exactly this attempt."""
    record = read_runner_record(attempt.run)
    return record if record is not None and record.name == attempt.name else None


def write_pending(attempt: Attempt, waiting_for: str) -> None:
    """Say why an attempt has not begun where it was given to."""
    record = PendingRecord(attempt=attempt.number, id=attempt.id, waiting_for=waiting_for)
    write_whole(attempt.run / PENDING, record.model_dump_json())


def pending_for(attempt: Attempt) -> str | None:
    """Why this attempt has not begun; ``None`` where it has, or nobody said."""
    record = found(attempt.run / PENDING, PendingRecord)
    if record is None or (record.attempt, record.id) != (attempt.number, attempt.id):
        return None
    return None if own_runner_record(attempt) else one_line(record.waiting_for)


def reserve_records(run: Path) -> None:
    """Take the disk space of the records of an end, so that a job can end on a full disk."""
    for name in (EXIT, FAILURE):
        reserve(run / name, _RECORD_BYTES)


def write_exit_record(run: Path, record: ExitRecord) -> None:
    _set_folder_aside(run / EXIT)
    write_reserved(run / EXIT, record.model_dump_json().encode())
    release(run / FAILURE)


def read_exit_record(attempt: Attempt) -> ExitRecord | None:
    """The exit record of exactly this attempt: that of any other is no news."""
    record = found(attempt.run / EXIT, ExitRecord)
    return record if record is not None and record.name == attempt.name else None
