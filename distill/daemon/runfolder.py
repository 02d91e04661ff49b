"""The daemon's side of ``runs/JOB/``: the frozen spec, the lock, the records.

Every record is written whole or not at all, and read without trust: a torn, foreign or hostile
file reads as absent.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import atomic_file, release, reserve, sync_folder, write_reserved
from distill.daemon.locks import held, is_held
from distill.daemon.outcome import ExitRecord, Failure
from distill.daemon.processes import ProcessIdentity

SPEC = "spec.toml"
LOG = "log.txt"
RUNNER = "runner.json"
EXIT = "exit.json"
FAILURE = "failure.json"

METRICS = "metrics.jsonl"
OLD_RUN = ".old-"
"""In the name of a folder that was set aside for another spec."""

_LONGEST_REASON = 500
_RECORD_BYTES = 4096
_TAIL_BYTES = 1 << 16


class FolderInUseError(UserError):
    """Another process works in the run folder."""


@dataclass(frozen=True)
class RunnerRecord:
    """The newest attempt that was started in a folder, and its runner.

    The attempt is a fence: no runner starts an attempt that is not newer than the one recorded.
    ``runner`` is ``None`` where the attempt was closed before it began.
    """

    attempt: int
    runner: ProcessIdentity | None


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
                f"the run folder {run} is in use by another process; wait for its end or stop it"
            ) from None
        yield


def in_use(run: Path) -> bool:
    """Whether some process holds the folder."""
    return is_held(run)


def write_whole(path: Path, text: str) -> None:
    """Replace ``path`` so that a crash at any moment leaves the old text or the new one."""
    with atomic_file(path) as file:
        file.write(text.encode())


def frozen_spec(run: Path) -> str | None:
    """The spec that the folder belongs to; ``None`` where there is none."""
    try:
        return (run / SPEC).read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def freeze_spec(run: Path, spec: str) -> None:
    """Make ``run`` the folder of this spec; safe to repeat after a crash at any moment.

    A folder of the same spec stays as it is, so its finished steps are not done again. A folder
    of another spec is set aside as ``JOB.old-N``, never deleted.
    """
    present = frozen_spec(run)
    if present == spec:
        return
    if present is not None:
        _set_aside(run)
    run.mkdir(parents=True, exist_ok=True)
    write_whole(run / SPEC, spec)


def _set_aside(run: Path) -> None:
    number = 1
    while (aside := run.with_name(f"{run.name}{OLD_RUN}{number}")).exists():
        number += 1
    with locked(run, wait=1.0):
        run.rename(aside)
    sync_folder(run.parent)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where it is missing or anything else."""
    value = _content(path)
    return value if isinstance(value, dict) else {}


def _content(path: Path) -> Any:
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _parse(text: bytes) -> Any:
    """The JSON value; ``None`` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def write_runner_record(run: Path, record: RunnerRecord) -> None:
    write_whole(run / RUNNER, json.dumps(asdict(record)))


def read_runner_record(run: Path) -> RunnerRecord | None:
    values = read_json(run / RUNNER)
    try:
        runner = values["runner"]
        identity = None if runner is None else ProcessIdentity(**runner)
        return RunnerRecord(int(values["attempt"]), identity)
    except (KeyError, TypeError, ValueError):
        return None


def reserve_records(run: Path) -> None:
    """Take the disk space of the records of an end, so that a job can end on a full disk."""
    for name in (EXIT, FAILURE):
        reserve(run / name, _RECORD_BYTES)


def write_exit_record(run: Path, record: ExitRecord) -> None:
    write_reserved(run / EXIT, json.dumps(asdict(record)).encode())
    release(run / FAILURE)


def read_exit_record(run: Path, attempt: int) -> ExitRecord | None:
    """The exit record of exactly this attempt: an older attempt's record is no news."""
    values = read_json(run / EXIT)
    try:
        record = ExitRecord(**values)
    except TypeError:
        return None
    if record.attempt != attempt or not _is_an_exit(record):
        return None
    return record


def _is_an_exit(record: ExitRecord) -> bool:
    """Whether the record says how the job ended: by a status or by a signal."""
    ends = (record.exit_status, record.signal)
    return any(type(end) is int for end in ends) and all(type(e) in (int, type(None)) for e in ends)


def read_failure(run: Path) -> Failure | None:
    """The job's own words, cut to one line each."""
    values = read_json(run / FAILURE)
    reason, hint = values.get("reason"), values.get("hint")
    if not isinstance(reason, str) or not reason.strip():
        return None
    return Failure(
        reason=_one_line(reason), hint=_one_line(hint) if isinstance(hint, str) else None
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_REASON]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The list of JSON objects in ``path``; empty where it is missing or anything else."""
    value = _content(path)
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def read_last_metrics(run: Path) -> dict[str, Any]:
    """The newest whole line of ``metrics.jsonl``; empty where there is none."""
    lines = read_log(run / METRICS, -_TAIL_BYTES)[0].splitlines(keepends=True)
    for line in reversed(lines):
        if line.endswith(b"\n"):
            value = _parse(line)
            return value if isinstance(value, dict) else {}
    return {}


def read_log(path: Path, offset: int, limit: int = 1 << 16) -> tuple[bytes, int]:
    """Up to ``limit`` bytes from ``offset`` (from the end where negative), and where they end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size + offset, 0) if offset < 0 else min(offset, size))
            return file.read(limit), file.tell()
    except FileNotFoundError:
        return b"", 0
