"""What ranks tell the job that started them: a file of JSON lines for each rank.

A file takes what is written even where nobody reads, and stays as a record.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.errors import UserError
from curation.files import open_regular
from curation.json_text import as_json, parse_record

_LONGEST_LINE = 1 << 20  # bytes

Message = dict[str, Any]
"""One of the fields of ``Said``, and its value."""
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class Said(BaseModel):
    """What a line holds: one of these, and as the last one a field that says how it ended."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    ready: Annotated[int, Field(ge=1, le=1 << 22)] | None = None
    """The pid of a rank that hears signals now"""
    metrics: dict[str, float | None] | None = None
    progress: tuple[Count, Count] | None = None
    """Images done, of how many"""
    warning: tuple[str, str] | None = None
    """Key and text of a notice"""
    done: dict[str, float | None] | None = None
    """The last losses"""
    stopped: Literal[True] | None = None
    error: str | None = None
    diverged: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("a message has one key")
        return self


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
        self._file.write(as_json({kind: value}) + "\n")
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
        """Whole lines only; the rest next time. ``UserError`` for a line that is no message."""
        if not os.path.lexists(self.path):
            return
        with open_regular(self.path) as file:
            file.seek(self._offset)
            while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
                self._offset += len(line)
                yield self._message(line)
        if len(line) == _LONGEST_LINE:
            raise UserError(f"{self.path}: a line has more than {_LONGEST_LINE:,} bytes")

    def _message(self, line: bytes) -> Message:
        try:
            return parse_record(line, Said).model_dump(exclude_unset=True)
        except ValueError as error:
            raise UserError(f"{self.path} holds something that is no message: {error}") from None
