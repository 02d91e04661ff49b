"""Bad records: an error with its position, or a line of ``quarantine.tsv`` if skipped."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

from curation.errors import UserError
from curation.printable import printable
from curation.text_files import text_lines
from curation.text_numbers import whole

QUARANTINE_FILE = "quarantine.tsv"
QUARANTINE_HEADER = "key\toffset\treason\n"


class BadRecordError(UserError):
    """A record that a store cannot hold: its key in the index, if known, and its position.

    ``what`` is the record's description in messages.
    ``offset`` is the byte in a record file, or the number of the file in a folder or list.
    """

    def __init__(self, what: str, key: int | None, offset: int, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what, self.key, self.offset, self.reason = what, key, offset, reason

    def line(self, name: str | None) -> str:
        """The record as a line of the quarantine file; ``name`` is the name of an image file."""
        key = "-" if self.key is None else str(self.key)
        reason = self.reason if name is None else f"{name}: {self.reason}"
        return f"{key}\t{self.offset}\t{printable(' '.join(reason.split()))}\n"


OnBad = Callable[[BadRecordError], None]
"""Handles a bad record: raises, or returns to skip it."""


def stop_at(bad: BadRecordError) -> NoReturn:
    """Raise the bad record's error, which ends the reading."""
    raise bad


class Quarantined(NamedTuple):
    """A line of a quarantine file."""

    key: int | None
    offset: int
    reason: str


def read_quarantine(folder: Path) -> Iterator[Quarantined]:
    """The records that the conversion to the store ``folder`` skipped; none without such a file.

    Raises ``UserError`` naming the line if the file is malformed.
    """
    path = folder / QUARANTINE_FILE
    if not path.exists():
        return
    for number, line in islice(text_lines(path, "a quarantine"), 1, None):
        yield _parse(line, f"{path}: line {number}")


def _parse(line: str, where: str) -> Quarantined:
    match line.split("\t"):
        case key, offset, reason:
            number, place = whole(key), whole(offset)
            if place is not None and (number is not None or key == "-"):
                return Quarantined(number, place, reason)
    raise UserError(f"{where} is not 'key, offset, reason' with tabs between")
