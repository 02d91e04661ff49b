"""A run directory and the records of its attempts: the frozen spec, the lock, the end.

Every record is written atomically.
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
"""Part of the name of a folder that was set aside for another spec"""

_RECORD_BYTES = 4096
_LARGEST_SPEC = 1 << 20  # bytes; more than a submit accepts


class FolderInUseError(UserError):
    """Another process works in the run folder."""


@contextmanager
def locked(run: Path, wait: float = 0.0) -> Iterator[None]:
    """Lock the folder; ``FolderInUseError`` if another process holds it for ``wait`` seconds.

    The lock is on the folder itself: it ends with the process, and stays when it is renamed.
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

    Unless ``durable``, a power cut may leave neither.
    """
    _set_folder_aside(path)
    with atomic_file(path, durable) as file:
        file.write(text.encode())


def remove_record(path: Path) -> None:
    """Remove a record; a folder with its name, which nothing here creates, is set aside."""
    _set_folder_aside(path)
    path.unlink(missing_ok=True)


def _set_folder_aside(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(unused_name(path))


def frozen_spec(run: Path) -> str | None:
    """The spec that the folder belongs to; ``None`` if there is none.

    Raises ``UnreadableError`` if its file is not a regular one.
    """
    path = run / SPEC
    if not os.path.lexists(path):
        return None
    return read_whole(path, _LARGEST_SPEC).decode(errors="replace")


def freeze_spec(run: Path, spec: str, durable: bool = True) -> None:
    """Make ``run`` the folder of this spec; can be repeated after a crash at any moment.

    If it will be repeated anyway, it need not be ``durable``, and does not wait for the disk.

    A folder of the same spec is kept, so that finished steps are not repeated. A folder of another
    spec is set aside as ``JOB.old-N``, never deleted.
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
    """Write the provenance from the queue to the existing folder."""
    if provenance is not None:
        write_whole(run / PROVENANCE, provenance, durable)


def _set_aside(run: Path) -> None:
    with locked(run, wait=1.0):
        run.rename(unused_name(run))
    sync_folder(run.parent)


def unused_name(path: Path) -> Path:
    """The first free ``NAME.old-N``, for what is set aside."""
    number = 1
    while (aside := path.with_name(f"{path.name}{OLD_RUN}{number}")).exists():
        number += 1
    return aside


def begins_after(attempt: Attempt) -> str:
    """The name of the previous attempt, which a runner must find in the folder in order to start.

    Empty if there was none.
    """
    newest = read_runner_record(attempt.run)
    return "" if newest is None else newest.name


def write_runner_record(attempt: Attempt, runner: ProcessIdentity | None) -> None:
    """Make this the newest attempt in its folder; without a runner it can never start."""
    record = RunnerRecord(attempt=attempt.number, id=attempt.id, runner=runner)
    write_whole(attempt.run / RUNNER, record.model_dump_json())


def keep_halved(run: Path, reason: str | None) -> None:
    """Record why the job halves its micro-batches; ``None`` if it does not."""
    if reason is None:
        remove_record(run / HALVED)
    elif (halved := Halved(reason=reason)) != read_halved(run):
        write_whole(run / HALVED, halved.model_dump_json())


def read_runner_record(run: Path) -> RunnerRecord | None:
    return found(run / RUNNER, RunnerRecord)


def own_runner_record(attempt: Attempt) -> RunnerRecord | None:
    """The runner record, if it belongs to this attempt."""
    record = read_runner_record(attempt.run)
    return record if record is not None and record.name == attempt.name else None


def write_pending(attempt: Attempt, waiting_for: str) -> None:
    """Record why an attempt has not started in its cluster."""
    record = PendingRecord(attempt=attempt.number, id=attempt.id, waiting_for=waiting_for)
    write_whole(attempt.run / PENDING, record.model_dump_json())


def pending_for(attempt: Attempt) -> str | None:
    """Why this attempt has not started; ``None`` if it has, or no reason was recorded."""
    record = found(attempt.run / PENDING, PendingRecord)
    if record is None or (record.attempt, record.id) != (attempt.number, attempt.id):
        return None
    return None if own_runner_record(attempt) else one_line(record.waiting_for)


def reserve_records(run: Path) -> None:
    """Reserve disk space for the final records, so that a job can end on a full disk."""
    for name in (EXIT, FAILURE):
        reserve(run / name, _RECORD_BYTES)


def write_exit_record(run: Path, record: ExitRecord) -> None:
    _set_folder_aside(run / EXIT)
    write_reserved(run / EXIT, record.model_dump_json().encode())
    release(run / FAILURE)


def read_exit_record(attempt: Attempt) -> ExitRecord | None:
    """The exit record, if it belongs to this attempt."""
    record = found(attempt.run / EXIT, ExitRecord)
    return record if record is not None and record.name == attempt.name else None
