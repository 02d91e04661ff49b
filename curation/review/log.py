"""The event log ``decisions.jsonl``: events are on disk before they are acknowledged.

Any number of processes append. Each locks the file while it reads new events, checks that its own
event is still valid, and writes. A process killed while writing leaves an incomplete line, which
was never acknowledged; the next writer removes it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from curation.errors import UserError
from curation.files import open_regular, sync_folder
from curation.locks import take
from curation.review.events import LONGEST_EVENT, ReviewEvent, as_line, parse_event

DECISIONS_LOG = "decisions.jsonl"
_PATIENCE = 10.0
"""Seconds to wait for other writers"""


class NotWrittenError(UserError):
    """The disk or another process prevents writing; a later attempt may succeed."""


class DecisionLog:
    """The log, read incrementally up to its last complete line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._lines = 0
        self._file: tuple[int, int] | None = None

    def news(self) -> list[ReviewEvent]:
        """The new events since the last call; empty if there is no file yet.

        Raises ``UserError`` if a line is invalid or the file was replaced.
        """
        if not self.path.exists():
            self._expect(None, 0)
            return []
        with open_regular(self.path) as file:
            status = os.fstat(file.fileno())
            self._expect((status.st_dev, status.st_ino), status.st_size)
            if status.st_size == self._read:
                return []
            file.seek(self._read)
            events: list[ReviewEvent] = []
            lengths: list[int] = []
            for line in self._complete_lines(file):
                events.append(self._parsed(line, self._lines + len(events) + 1))
                lengths.append(len(line))
        self._read += sum(lengths)
        self._lines += len(events)
        return events

    @contextmanager
    def alone(self) -> Iterator[list[ReviewEvent]]:
        """Lock the log and yield new events; ``append`` may be called inside."""
        descriptor = self._open()
        try:
            try:
                take(descriptor, _PATIENCE)
            except BlockingIOError:
                raise NotWrittenError(
                    f"another process has been writing {self.path} for {_PATIENCE:.0f} s; try again"
                ) from None
            status = os.fstat(descriptor)
            events = self.news()
            self._expect((status.st_dev, status.st_ino), status.st_size)
            os.ftruncate(descriptor, self._read)  # an incomplete line of a killed writer
            yield events
        finally:
            os.close(descriptor)

    def append(self, event: ReviewEvent) -> None:
        """Write the event durably; the log must be locked.

        Raises ``NotWrittenError`` if the disk fails, ``UserError`` if the event could not be read
        back. The file is then unchanged.
        """
        line = as_line(event)
        if len(line) > LONGEST_EVENT:
            raise UserError(f"a decision of {len(line):,} bytes; at most {LONGEST_EVENT:,} fit")
        try:
            parse_event(line)  # an unreadable event would make the file unreadable
        except ValueError as error:
            raise UserError(f"this decision cannot be saved: {error}") from None
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, self._read)
            raise NotWrittenError(
                f"cannot write {self.path}: {error.strerror}; this decision is not saved"
            ) from None
        finally:
            os.close(descriptor)
        self._read += len(line)
        self._lines += 1

    def _open(self) -> int:
        try:
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if is_new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise NotWrittenError(f"cannot write {self.path}: {error.strerror}") from None
        return descriptor

    def _expect(self, file: tuple[int, int] | None, size: int) -> None:
        if (self._file not in (None, file)) or size < self._read:
            raise UserError(f"{self.path} was removed or replaced; open it again")
        self._file = file

    def _complete_lines(self, file: BinaryIO) -> Iterator[bytes]:
        while line := file.readline(LONGEST_EVENT + 1):
            if line.endswith(b"\n"):
                yield line
            elif len(line) > LONGEST_EVENT:
                yield line[:60]  # is not an event
            else:
                return

    def _parsed(self, line: bytes, number: int) -> ReviewEvent:
        try:
            return parse_event(line)
        except ValueError as error:
            raise UserError(
                f"{self.path} line {number} is damaged: {error}; correct or remove the line, and "
                f"open the review again"
            ) from None
