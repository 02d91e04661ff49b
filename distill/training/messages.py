"""What ranks tell the job that started them: a file of JSON lines for each rank.

A file takes what is written even where nobody reads, and stays as a record.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]
"""One of {"ready": pid}, {"metrics": values}, {"progress": [done, total]}, {"warning": [key,
text]} of a notice, and as the last one
{"done": losses}, {"stopped": true}, {"error": one line} or {"diverged": one line}."""


def messages_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.jsonl"


def log_file(folder: Path, rank: int) -> Path:
    """Everything that a rank and its libraries print."""
    return folder / f"rank-{rank}.txt"


class Messenger:
    """The writing end, in a rank."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._file = messages_file(folder, rank).open("a")

    def send(self, kind: str, value: Any) -> None:
        self._file.write(json.dumps({kind: value}) + "\n")
        self._file.flush()

    def send_ready(self) -> None:
        """Signals will be heard from now on."""
        self.send("ready", os.getpid())


class Inbox:
    """The reading end, in the job: what one rank has said since the last look."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.path = messages_file(folder, rank)
        self._offset = 0

    def read(self) -> Iterator[Message]:
        """Whole lines only; the rest next time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
