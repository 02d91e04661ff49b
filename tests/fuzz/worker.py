"""A process that reads inputs and announces each one first, because reading may kill it.

``python -m tests.fuzz.worker MODULE READER SEED FIRST COUNT FOLDER`` prints one line of JSON before
and one after each input.
"""

import json
import resource
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from curation.errors import UserError
from tests.fuzz.harness import Reader, find, lay_out
from tests.fuzz.mutators import make_input

MOST_MEMORY = 2 << 30
"""Bytes that a reader may use, including all imports"""
_ROOM = 3 << 30
"""Address space beyond that in use at the start; a larger allocation fails"""


def main(module: str, name: str, seed: str, first: str, count: str, folder: str) -> None:
    reader, scratch = find(module, name), Path(folder)
    _ = reader.samples
    _limit_memory()
    for number in range(int(first), int(first) + int(count)):
        _say({"begin": number})
        _say({"end": number, **_try(reader, int(seed), number, scratch)})


def _try(reader: Reader, seed: int, number: int, scratch: Path) -> dict[str, Any]:
    """The result of one input: how it ended, why, and its peak memory."""
    try:
        lay_out(make_input(reader, seed, number), scratch / "case")
    except Exception as error:
        return {"outcome": "not made", "reason": _origin(error)}
    _forget_peak()
    outcome, reason = "accepted", ""
    try:
        reader.read(scratch / "case")
    except UserError as error:
        outcome, reason = "refused", str(error)
    except BaseException as error:
        outcome, reason = "traceback", _origin(error)
    peak = max(_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
    for entry in scratch.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return {"outcome": outcome, "reason": reason[:500], "peak": peak}


def _origin(error: BaseException) -> str:
    """The exception and the innermost lines of our code in its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if {"curation", "teachers", "distill"} & {*Path(f.filename).parts}]
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in (ours or frames)[-2:]]
    return f"{type(error).__name__} at {' > '.join(places)}: {error!s:.200}"


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
