"""Steps addressed by what goes into them: ``steps/KIND-ID/``, where ID is a digest of the inputs.

A step is done when its folder has a ``result.json``, which is written last. One process works on
a step at a time; another that wants the same waits, and then finds it done.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import atomic_file

RESULT, INPUTS = "result.json", "inputs.json"
VERSION = 1
"""Raised when a step would come out otherwise from the same inputs."""


@dataclass(frozen=True)
class Outcome:
    """What a step left: its folder, its result, and whether it had been done before."""

    folder: Path
    result: dict[str, Any]
    reused: bool


class StepStore:
    """All steps of a workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def perform(
        self, kind: str, inputs: dict[str, Any], work: Callable[[Path], dict[str, Any]]
    ) -> Outcome:
        """The outcome of ``work(folder)`` for these inputs, from an earlier time if there is one.

        ``inputs`` must be JSON and determine what comes out. ``work`` may find the folder as a
        stopped attempt left it, and returns the result, which must be JSON.
        """
        folder = self.folder(kind, inputs)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            result = _read(folder / RESULT)
            if result is not None:
                return Outcome(folder, result, reused=True)
            _write(folder / INPUTS, inputs)
            result = work(folder)
            _write(folder / RESULT, result)
        return Outcome(folder, result, reused=False)

    def folder(self, kind: str, inputs: dict[str, Any]) -> Path:
        """Where the step with these inputs lies, done or not."""
        text = json.dumps([VERSION, kind, inputs], sort_keys=True)
        return self.root / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise UserError(
            f"{path} is damaged: it is no JSON; remove {path.parent} and run again, which does "
            "that step anew"
        ) from None


def _write(path: Path, value: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=2).encode())
