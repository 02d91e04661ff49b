"""The curves of a job: ``metrics.jsonl`` as columns, read incrementally, thinned for display."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.json_text import parse_json
from distill.run_directory import METRICS, read_log

POINTS = 800
"""Maximum per curve; more than a screen has columns"""
MOST_ROWS = 100_000
"""Maximum rows kept per step; a longer step keeps every second row, then every fourth"""
MOST_READ = 256 << 20
"""Bytes read at once: of a longer file, its end"""
_MOST_STEPS, _MOST_KEYS, _LONGEST_NAME = 1000, 200, 200
_PIECE = 1 << 20
_MOST_JOBS = 16
_NO_CURVE = frozenset({"step", "time", "iteration", "epoch", "evaluation_seconds"})
GROUPS = {
    "Losses": ("loss_",),
    "Learning rate": ("learning_rate",),
    "Images a second": ("images_per_second",),
    "Share of the time that waits for data": ("data_wait",),
    "Mined share": ("mined_share", "margin_violation"),
    "Scores": ("score", "accuracy_"),
    "Gradient norm": ("gradient_norm",),
}
"""Charts by the prefixes of their keys"""


@dataclass
class _Step:
    """The rows of one step: the positions and values of each key."""

    columns: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    every: int = 1
    seen: int = 0

    def take(self, row: dict[str, Any]) -> None:
        at = _number(row.get("iteration"))
        if at is None:
            return
        is_score = "score" in row  # there are few scores, and none is dropped
        self.seen += not is_score
        if not is_score and self.seen % self.every:
            return
        for key, value in row.items():
            known = key in self.columns or len(self.columns) < _MOST_KEYS
            if key in _NO_CURVE or not known or len(key) > _LONGEST_NAME:
                continue
            if (number := _number(value)) is not None:
                places, values = self.columns.setdefault(key, ([], []))
                places.append(at)
                values.append(number)
        if any(len(places) > MOST_ROWS for places, _ in self.columns.values()):
            self._thin()

    def _thin(self) -> None:
        """Drop every second point of the long columns; scores are in few rows and stay."""
        self.every *= 2
        for key, (places, values) in self.columns.items():
            if len(places) > MOST_ROWS // 2:
                self.columns[key] = places[::2], values[::2]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value) if abs(value) < 1e300 else math.inf
    return number if math.isfinite(number) else None


class Curves:
    """The metrics of a job so far; only new lines are read."""

    def __init__(self, run: Path) -> None:
        self._path = run / METRICS
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._offset, self._rest, self._file = 0, b"", 0
        self._steps: dict[str, _Step] = {}

    def steps(self) -> dict[str, list[str]]:
        """The steps that have curves, in order, with the keys of each."""
        with self._lock:
            self._read_on()
            return {name: sorted(step.columns) for name, step in self._steps.items()}

    def curve(
        self, step: str, key: str, first: float = -math.inf, last: float = math.inf
    ) -> tuple[list[float], list[float]]:
        """The x and y values of one curve between two iterations, thinned to ``POINTS``.

        The minimum and the maximum of each interval are kept, so that no spike is lost.
        """
        with self._lock:
            self._read_on()
            found = self._steps.get(step)
            places, values = ([], []) if found is None else found.columns.get(key, ([], []))
            x, y = np.array(places), np.array(values)
        inside = (x >= first) & (x <= last)
        return thinned(x[inside], y[inside])

    def _read_on(self) -> None:
        try:
            status = self._path.stat()
        except OSError:
            self._forget()
            return
        if status.st_ino != self._file or status.st_size < self._offset:
            self._forget()
            self._file = status.st_ino
        if status.st_size - self._offset > MOST_READ:
            self._offset, self._rest = status.st_size - MOST_READ, b""
        for line in self._new_lines():
            try:
                row = parse_json(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(name := row.get("step"), str):
                if name not in self._steps and len(self._steps) >= _MOST_STEPS:
                    continue
                self._steps.setdefault(name[:_LONGEST_NAME], _Step()).take(row)

    def _new_lines(self) -> Iterator[bytes]:
        """The complete lines added since the last call; lines over the length limit are skipped."""
        while True:
            try:
                piece, self._offset = read_log(self._path, self._offset, _PIECE)
            except UserError:
                return
            if not piece:
                return
            *lines, self._rest = (self._rest + piece).split(b"\n")
            self._rest = self._rest[-_PIECE:]
            yield from lines


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """At most ``POINTS`` of the points: the minimum and the maximum of each interval."""
    if len(x) <= POINTS:
        return x.tolist(), y.tolist()
    edges = np.linspace(0, len(x), POINTS // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for begin, end in pairwise(edges):
        stretch = y[begin:end]
        kept |= {begin + int(stretch.argmin()), begin + int(stretch.argmax())}
    at = np.array(sorted(kept))
    return x[at].tolist(), y[at].tolist()


class CurveStore:
    """The curves of recently viewed jobs."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Curves] = OrderedDict()

    def of(self, job: str) -> Curves:
        """The curves of a job; drops the least recently used ones."""
        with self._lock:
            found = self._kept.pop(job, None) or Curves(self._runs / job)
            self._kept[job] = found
            if len(self._kept) > _MOST_JOBS:
                self._kept.popitem(last=False)
            return found


def grouped(keys: list[str]) -> dict[str, list[str]]:
    """The keys of each chart, in chart order; unknown keys come last."""
    charts: dict[str, list[str]] = {}
    left = list(keys)
    for title, beginnings in GROUPS.items():
        if found := [key for key in left if key.startswith(beginnings)]:
            charts[title] = sorted(found, key=lambda key: (key != "loss_total", key))
            left = [key for key in left if key not in found]
    return charts | {key: [key] for key in left}
