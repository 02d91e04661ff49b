"""``decisions.jsonl``: events that are on the disk before anybody is told that they are taken.

Any number of processes append; each holds the file's lock while it reads what the others appended,
looks whether its own event still fits, and writes. A process that was killed while it wrote leaves
a line without an end: nobody was told that it counts, and the next writer cuts it off.
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
"""Seconds that others may take to write"""


class NotWrittenError(UserError):
    """The disk, or another process, is in the way; the same can be written later."""


class DecisionLog:
    """The file, read as far as it was complete at the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._lines = 0
        self._file: tuple[int, int] | None = None

    def news(self) -> list[ReviewEvent]:
        """The events since the last look; nothing where there is no file yet.

        Raises ``UserError`` where a line is none, or the file is another one than before.
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
        """Hold the log; what the others appended is given, and ``append`` may be called."""
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
            os.ftruncate(descriptor, self._read)  # what a killed writer began
            yield events
        finally:
            os.close(descriptor)

    def append(self, event: ReviewEvent) -> None:
        """Bring the event to the disk; called while the log is held.

        Raises ``NotWrittenError`` where the disk does not take it, ``UserError`` where it could
        not be read again; then the file is as it was.
        """
        line = as_line(event)
        if len(line) > LONGEST_EVENT:
            raise UserError(f"a decision of {len(line):,} bytes; at most {LONGEST_EVENT:,} fit")
        try:
            parse_event(line)  # what cannot be read again would spoil the file for everybody
        except ValueError as error:
            raise UserError(f"this decision cannot be written down: {error}") from None
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
                yield line[:60]  # which is no event
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
