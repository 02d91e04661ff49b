"""Decisions on findings: a table that people can read, edit and replay.

``decisions.tsv`` opens in any editor or spreadsheet. Its first line identifies the images. Each
further line is a decision: ``apply`` (yes or no), ``action``, its ``image`` and ``identity``
(indices into the image set), ``into``, and for the reader the check, the score and a note.
``findings`` identifies the findings it was proposed for. Nothing is deleted: replaying the table
makes a view.

Editors and spreadsheets may have added a byte-order mark, quotes, empty cells or lines, reordered
the columns, or used commas or semicolons; several tables may be joined in one file. All of this is
accepted. Anything else is an error with file, line and column.

==============  ==================================================================
drop            remove ``image``
drop-identity   remove ``identity`` with all its images
move            move ``image`` to the identity ``into``
split           move ``image`` to part ``into`` (1, 2, ...) of ``identity``, a new identity
merge           move all images of ``identity`` to the identity ``into``
==============  ==================================================================
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO, get_args

from curation.errors import UserError
from curation.files import atomic_file
from curation.text_files import bounded_lines, open_text
from curation.text_numbers import decimal, whole

DECISIONS_FILE = "decisions.tsv"
Action = Literal["drop", "drop-identity", "move", "split", "merge"]
COLUMNS = (
    *("apply", "action", "image", "identity", "into"),
    *("check", "score", "note", "findings"),
)
TITLE = "# decisions on the images"

_NEEDED = ("apply", "action", "image", "identity", "into")
_OF_IMAGES = ("drop", "move", "split")
_WITH_TARGET = ("move", "split", "merge")
_DELIMITERS = "\t,;"
_LONGEST_LINE = 1 << 20
MOST_DECISIONS = 10_000_000
"""They take four gigabytes of memory"""
_FINDINGS = re.compile("[a-z][a-z0-9_-]{0,63}-[0-9a-f]{1,64}")
"""A ``Finding.identity``"""
_HEAD_LINES = 20
"""Lines that are searched for the column names"""

About = tuple[int | None, int | None]
"""(identity, None) or (None, image): the subject of a decision"""


def subject_name(about: About) -> str:
    """``identity 7`` or ``image 12``."""
    identity, image = about
    return f"identity {identity}" if image is None else f"image {image}"


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of the table; ``image`` and ``into`` are None if the action has none."""

    action: Action
    identity: int
    image: int | None = None
    into: int | None = None
    check: str = ""
    score: float = 1.0
    note: str = ""
    apply: bool = True
    findings: str = ""
    """``Finding.identity`` of the findings it was proposed for; empty if a person added the line"""
    path: Path | None = field(default=None, compare=False)
    line: int = field(default=0, compare=False)
    """The line it was read from"""

    @property
    def about(self) -> About:
        """The image, or the identity as a whole, that it decides on."""
        return (self.identity, None) if self.image is None else (None, self.image)

    @property
    def where(self) -> str:
        """The file and line it was read from."""
        return f"{self.path} line {self.line}"

    @property
    def proposal(self) -> str:
        """The proposal regardless of ``apply``: "move 1187 302 4410"."""
        parts = (self.image, self.identity, self.into)
        return " ".join([self.action, *(str(part) for part in parts if part is not None)])


def parse_proposal(text: str) -> tuple[Action, int, int | None, int | None]:
    """The inverse of ``Decision.proposal``: action, identity, image and into.

    Raises ``ValueError``.
    """
    action, *numbers = text.split(" ")
    if action not in get_args(Action):
        raise ValueError(f"{text[:60]!r} does not begin with one of {', '.join(get_args(Action))}")
    columns = ["identity", *_numbers_of(action)]
    if "image" in columns:
        columns = ["image", "identity", *columns[2:]]
    if len(numbers) != len(columns) or not all(map(_is_index, numbers)):
        raise ValueError(f"{text[:60]!r} is not {' '.join([action, *map(str.upper, columns)])}")
    found = dict(zip(columns, map(int, numbers), strict=True))
    if action == "split" and found["into"] == 0:
        raise ValueError(f"{text[:60]!r} has the part 0; parts are numbered from 1")
    return action, found["identity"], found.get("image"), found.get("into")  # type: ignore[return-value]


def _is_index(text: str) -> bool:
    return whole(text, 15) is not None


def write_decisions(path: Path, images_digest: str, decisions: Iterable[Decision]) -> None:
    """Write the table for the image set with this digest."""
    with decisions_with(path, images_digest, decisions):
        pass


@contextmanager
def decisions_with(path: Path, images_digest: str, decisions: Iterable[Decision]) -> Iterator[None]:
    """Write the table, which appears only if the block ends without an error: with what it makes,
    and not otherwise.
    """
    with atomic_file(path) as file:
        lines = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        lines.write(f"{TITLE} {images_digest}\n")
        table = csv.writer(lines, delimiter="\t", lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(_written(decision) for decision in decisions)
        lines.detach()
        yield


def _written(decision: Decision) -> Sequence[str]:
    return (
        "yes" if decision.apply else "no",
        decision.action,
        "" if decision.image is None else str(decision.image),
        str(decision.identity),
        "" if decision.into is None else str(decision.into),
        " ".join(decision.check.split()),
        f"{decision.score:.4f}",
        " ".join(decision.note.split()),
        decision.findings,
    )


def read_decisions(path: Path, images_digest: str) -> list[Decision]:
    """The decisions in a table, without repeated lines.

    Raises ``UserError`` with the line if one is invalid, if the table belongs to other images, and
    if it has more than ``MOST_DECISIONS``.
    """
    path = Path(path)
    found: dict[Decision, None] = {}
    head: _TableHeader | None = None
    title_line = 0
    for number, cells in _rows(path):
        is_title = cells[0].startswith(TITLE)
        if is_title:
            _check_title(path, number, cells, images_digest)
            head, title_line = None, number
        elif not title_line:
            raise _no_table(path, number, cells)
        elif head is None:
            head = _TableHeader(path, number, cells)
        elif any(cells):
            found.setdefault(head.decision(number, cells))
            if len(found) > MOST_DECISIONS:
                raise UserError(f"{path} has more than {MOST_DECISIONS:,} decisions; split it")
    if not title_line:
        raise _no_table(path, 1, [""])
    if head is None:
        raise UserError(
            f"{path} line {title_line + 1}: the columns are missing; expected "
            f"{', '.join(COLUMNS)}, with tabs between them"
        )
    return list(found)


class _TableHeader:
    """The line with the column names; parses the lines below it."""

    def __init__(self, path: Path, number: int, cells: Sequence[str]) -> None:
        self._path = path
        names = [cell.lower() for cell in cells]
        while names and not names[-1]:
            names.pop()
        twice = [name for name in names if name and names.count(name) > 1]
        missing = [name for name in _NEEDED if name not in names]
        if twice or missing:
            what = f"repeated: {twice[0]}" if twice else f"missing: {', '.join(missing)}"
            raise UserError(
                f"{path} line {number}: columns are {what}; expected "
                f"{', '.join(COLUMNS)}, with tabs between them"
            )
        self._names = names

    def decision(self, number: int, row: Sequence[str]) -> Decision:
        """The decision of one line."""
        where = f"{self._path} line {number}"
        if any(row[len(self._names) :]):
            raise UserError(
                f"{where}: {len(row)} cells under {len(self._names)} columns; "
                "quote cells that contain the separator"
            )
        # Programs omit empty cells at the end of a line.
        cells = {**dict.fromkeys(self._names, ""), **dict(zip(self._names, row, strict=False))}
        return _decision(where, cells, self._path, number)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The non-empty lines with their numbers, as stripped cells."""
    if not path.exists():
        raise UserError(
            f"{path} does not exist; `curate check`, `curate cluster` and `curate join` write such "
            "tables"
        )
    try:
        with _open(path) as text:
            delimiter = _delimiter(text)
        with _open(path) as text:
            yield from _cells(path, bounded_lines(text, path, _LONGEST_LINE), delimiter)
    except UnicodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from None


def _open(path: Path) -> TextIO:
    return io.TextIOWrapper(open_text(path, "a table of decisions"), "utf-8", newline="")


def _cells(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    first = 1
    while True:
        try:
            row = next(table, None)
        except csv.Error as error:
            raise UserError(f"{path} line {first}: {error}") from None
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield first, cells
        first = table.line_num + 1


def _delimiter(text: TextIO) -> str:
    """The separator of the column names; a tab if they are not found."""
    for _ in range(_HEAD_LINES):
        line = text.readline(_LONGEST_LINE).lower()
        if "apply" in line and "action" in line and not line.startswith("#"):
            return max(_DELIMITERS, key=line.count)
    return "\t"


def _no_table(path: Path, number: int, cells: Sequence[str]) -> UserError:
    return UserError(
        f"{path} line {number}: is {cells[0][:60]!r}, not {TITLE + ' DIGEST'!r}; this is not a "
        f"table of decisions, or its first line is missing"
    )


def _check_title(path: Path, number: int, cells: Sequence[str], images_digest: str) -> None:
    digest = cells[0].removeprefix(TITLE).strip()
    if digest != images_digest:
        raise UserError(
            f"{path} line {number} is about other images (digest {digest[:12]}, these have "
            f"{images_digest[:12]}); give the store or view for which it was written, or run "
            f"`curate check` again"
        )


def _decision(where: str, cells: Mapping[str, str], path: Path, line: int) -> Decision:
    def refuse(column: str, allowed: str) -> UserError:
        return UserError(f"{where}: {column} is {cells[column][:60]!r}; allowed: {allowed}")

    action, apply = cells["action"].lower(), cells["apply"].lower()
    if action not in get_args(Action):
        raise refuse("action", ", ".join(get_args(Action)))
    if apply not in ("yes", "no"):
        raise refuse("apply", "yes, no")
    findings = cells.get("findings", "")
    if findings and _FINDINGS.fullmatch(findings) is None:
        raise refuse("findings", "the value in decisions.tsv or in the report, or nothing")
    numbers: dict[str, int | None] = {"image": None, "into": None}
    for column in ("identity", *_numbers_of(action)):
        value = cells[column]
        if not _is_index(value):
            raise refuse(column, "an index from 0")
        numbers[column] = int(value)
    if action == "split" and numbers["into"] == 0:
        raise refuse("into", "a part from 1")
    score = _score(cells.get("score", ""))
    if score is None:
        raise refuse("score", "a number from 0 to 1")
    identity = numbers["identity"]
    assert identity is not None
    return Decision(
        action,  # type: ignore[arg-type]
        identity,
        numbers["image"],
        numbers["into"],
        sys.intern(cells.get("check", "")),  # equal in millions of lines
        score,
        sys.intern(cells.get("note", "")),
        apply == "yes",
        sys.intern(findings),
        path,
        line,
    )


def _numbers_of(action: str) -> list[str]:
    wanted = {"image": _OF_IMAGES, "into": _WITH_TARGET}
    return [column for column, actions in wanted.items() if action in actions]


def _score(text: str) -> float | None:
    """1 for an empty cell; None if it is not a number from 0 to 1."""
    score = decimal(text or "1")
    return score if score is not None and 0 <= score <= 1 else None
