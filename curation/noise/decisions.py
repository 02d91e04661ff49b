"""What to do about findings: a table that a person can read, edit and replay.

``decisions.tsv`` opens in any editor or spreadsheet. Its first line says for which images it was
written; then one decision a line: ``apply`` (yes or no), ``action``, the ``image`` and ``identity``
it is about (indices of the image set), ``into`` what, and, for the reader, the check, the score and
a note. Nothing is deleted: replaying the table makes a view.

==============  ==================================================================
drop            leave out ``image``
drop-identity   leave out ``identity`` with all its images
move            give ``image`` to the identity ``into``
split           give ``image`` to part ``into`` (1, 2, ...) of ``identity``, a new identity
merge           give all images of ``identity`` to the identity ``into``
==============  ==================================================================
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from curation.errors import UserError
from curation.files import atomic_file
from curation.text_files import text_lines

DECISIONS_FILE = "decisions.tsv"
Action = Literal["drop", "drop-identity", "move", "split", "merge"]
COLUMNS = ("apply", "action", "image", "identity", "into", "check", "score", "note")
_TITLE = "# decisions on the images"
_OF_IMAGES = ("drop", "move", "split")
_WITH_TARGET = ("move", "split", "merge")


@dataclass(frozen=True)
class Decision:
    """One line of the table; ``image`` and ``into`` are None where the action has none."""

    action: Action
    identity: int
    image: int | None = None
    into: int | None = None
    check: str = ""
    score: float = 1.0
    note: str = ""
    apply: bool = True


def write_decisions(path: Path, images_digest: str, decisions: Iterable[Decision]) -> None:
    """Write the table for the image set with this digest."""
    with atomic_file(path) as file:
        file.write(f"{_TITLE} {images_digest}\n{chr(9).join(COLUMNS)}\n".encode())
        for decision in decisions:
            file.write(("\t".join(_cells(decision)) + "\n").encode())


def read_decisions(path: Path, images_digest: str) -> list[Decision]:
    """The table's lines.

    Raises ``UserError`` with the line where one is not understood, and where the table was written
    for other images.
    """
    if not Path(path).exists():
        raise UserError(f"{path} does not exist; `curate check` writes it")
    lines = list(text_lines(path, "a table of decisions"))
    _check_head(path, [text for _, text in lines[:2]], images_digest)
    return [_decision(path, number, text.split("\t")) for number, text in lines[2:]]


def override_decisions(
    decisions: Sequence[Decision], changes: Sequence[Decision]
) -> list[Decision]:
    """``decisions`` with those about the same image, or identity as a whole, as in ``changes``."""
    changed = {(change.identity, change.image) for change in changes}
    kept = [d for d in decisions if (d.identity, d.image) not in changed]
    return kept + list(changes)


def _check_head(path: Path, lines: Sequence[str], images_digest: str) -> None:
    if len(lines) < 2 or not lines[0].startswith(_TITLE):
        raise UserError(f"{path} line 1: is not {_TITLE + ' DIGEST'!r}; no table of decisions")
    digest = lines[0].removeprefix(_TITLE).strip()
    if digest != images_digest:
        raise UserError(
            f"{path} decides on other images (digest {digest[:12]}, these have "
            f"{images_digest[:12]}); give the store or view it was written for, or check again"
        )
    if tuple(lines[1].split("\t")) != COLUMNS:
        raise UserError(f"{path} line 2: the columns are to be {', '.join(COLUMNS)}, with tabs")


def _cells(decision: Decision) -> list[str]:
    note = " ".join(decision.note.split())
    return [
        "yes" if decision.apply else "no",
        decision.action,
        "" if decision.image is None else str(decision.image),
        str(decision.identity),
        "" if decision.into is None else str(decision.into),
        decision.check,
        f"{decision.score:.4f}",
        note,
    ]


def _decision(path: Path, number: int, row: list[str]) -> Decision:
    def refuse(column: str, value: str, allowed: str) -> UserError:
        return UserError(f"{path} line {number}: {column} is {value!r}; allowed: {allowed}")

    cells = dict(zip(COLUMNS, [cell.strip() for cell in row], strict=False))
    if len(cells) < 5:
        raise UserError(f"{path} line {number}: {len(row)} columns; {len(COLUMNS)} are wanted")
    action = cells["action"]
    if action not in get_args(Action):
        raise refuse("action", action, ", ".join(get_args(Action)))
    if cells["apply"] not in ("yes", "no"):
        raise refuse("apply", cells["apply"], "yes, no")
    wanted = {
        "identity": True,
        "image": action in _OF_IMAGES,
        "into": action in _WITH_TARGET,
    }
    numbers: dict[str, int | None] = {}
    for column, is_wanted in wanted.items():
        value = cells[column]
        if is_wanted and not (value.isascii() and value.isdigit() and len(value) < 16):
            raise refuse(column, value, "an index from 0")
        if action == "split" and column == "into" and int(value) == 0:
            raise refuse(column, value, "a part from 1")
        numbers[column] = int(value) if is_wanted else None
    try:
        score = float(cells.get("score") or 1.0)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise refuse("score", cells["score"], "a number from 0 to 1")
    identity = numbers["identity"]
    assert identity is not None
    return Decision(
        action,  # type: ignore[arg-type]
        identity,
        numbers["image"],
        numbers["into"],
        cells.get("check", ""),
        score,
        cells.get("note", ""),
        cells["apply"] == "yes",
    )
