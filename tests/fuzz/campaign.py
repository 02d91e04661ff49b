"""Runs many inputs through a reader, in workers that are replaced when they die or hang."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.harness import Reader

OUTCOMES = ("accepted", "refused", "traceback", "signal", "hang")
_START_SECONDS = 120.0
"""For a worker's first line: it imports libraries and creates samples before that"""


@dataclass(frozen=True)
class Failure:
    """An input that was neither accepted nor properly refused."""

    reader: str
    seed: int
    number: int
    outcome: str
    reason: str


@dataclass
class Tally:
    """The results of a reader's inputs; ``peak`` in bytes."""

    reader: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    peak: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return sum(self.counts.values())


def run_campaign(
    reader: Reader,
    seed: int,
    count: int,
    patience: float,
    told: Callable[[], None] = lambda: None,
    first: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Try ``count`` inputs; one that takes longer than ``patience`` seconds counts as hanging.

    ``told`` is called after each input. Once ``stop()`` is true, the remaining inputs are skipped.
    """
    tally, end = Tally(reader.name), first + count
    while first < end and not stop():
        for line in _answers(reader, seed, first, end - first, patience):
            if "begin" in line:
                first = line["begin"]
                continue
            _note(tally, seed, first, line)
            told()
            if stop():
                return tally
        first += 1
    return tally


def _note(tally: Tally, seed: int, number: int, line: dict[str, Any]) -> None:
    outcome = line["outcome"]
    if outcome == "not made":
        raise RuntimeError(f"input {number} of {tally.reader}, seed {seed}: {line['reason']}")
    tally.counts[outcome] += 1
    tally.peak = max(tally.peak, line.get("peak", 0))
    if outcome not in ("accepted", "refused"):
        tally.failures.append(Failure(tally.reader, seed, number, outcome, line["reason"]))


def _answers(
    reader: Reader, seed: int, first: int, count: int, patience: float
) -> Iterator[dict[str, Any]]:
    """The lines of one worker; if it dies or hangs, one more line for its current input."""
    begun = None
    with tempfile.TemporaryDirectory() as folder, _worker(reader, seed, first, count, folder) as at:
        for line in _lines(at, patience):
            begun = line.get("begin", begun)
            yield line
            if line.get("end") == first + count - 1:
                return
        if at.poll() is None:
            at.kill()
        status = at.wait()
        if begun is None:
            raise RuntimeError(f"the worker of {reader.name} ended before its first input")
        if status == -signal.SIGKILL:
            yield {"outcome": "hang", "reason": f"no answer within {patience:.0f} s"}
        else:
            yield {"outcome": "signal", "reason": _name_of_end(status)}


def _name_of_end(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


@contextmanager
def _worker(
    reader: Reader, seed: int, first: int, count: int, folder: str
) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [reader.module, reader.name, seed, first, count, folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.worker", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # so that its children are killed with it
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _lines(process: subprocess.Popen[bytes], patience: float) -> Iterator[dict[str, Any]]:
    """Lines as they arrive, until the stream ends or is silent for too long."""
    assert process.stdout is not None
    rest, wait = b"", _START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(wait):
            piece, wait = os.read(process.stdout.fileno(), 1 << 16), patience
            if not piece:
                process.wait()
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield from map(json.loads, whole)
