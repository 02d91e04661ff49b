"""What to do about findings: a table that a person can read, edit and replay.

``decisions.tsv`` opens in any editor or spreadsheet. Its first line says for which images it was
written; then one decision a line: ``apply`` (yes or no), ``action``, the ``image`` and ``identity``
it is about (indices of the image set), ``into`` what, and, for the reader, the check, the score and
a note. ``findings`` says which findings it was proposed on. Nothing is deleted: replaying the table
makes a view.

==============  ==================================================================
drop            leave out ``image``
drop-identity   leave out ``identity`` with all its images
move            give ``image`` to the identity ``into``
split           give ``image`` to part ``into`` (1, 2, ...) of ``identity``, a new identity
merge           give all images of ``identity`` to the identity ``into``
==============  ==================================================================
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from curation.files import atomic_file

DECISIONS_FILE = "decisions.tsv"
Action = Literal["drop", "drop-identity", "move", "split", "merge"]
COLUMNS = (
    *("apply", "action", "image", "identity", "into"),
    *("check", "score", "note", "findings"),
)
TITLE = "# decisions on the images"

Subject = tuple[int | None, int | None]
"""(identity, None) or (None, image): what a decision is about"""


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
    findings: str = ""
    """``Finding.identity`` of what it was proposed on; empty where a person added the line"""
    path: Path | None = field(default=None, compare=False)
    line: int = field(default=0, compare=False)
    """Where it was read"""

    @property
    def subject(self) -> Subject:
        """The image, or the identity as a whole, that it is about."""
        return (self.identity, None) if self.image is None else (None, self.image)

    @property
    def where(self) -> str:
        """The file and line it was read from."""
        return f"{self.path} line {self.line}"

    @property
    def proposal(self) -> str:
        """What is proposed, whether it is applied or not: "move 1187 302 4410"."""
        parts = (self.image, self.identity, self.into)
        return " ".join([self.action, *(str(part) for part in parts if part is not None)])


def write_decisions(path: Path, images_digest: str, decisions: Iterable[Decision]) -> None:
    """Write the table for the image set with this digest."""
    with atomic_file(path) as file:
        lines = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        lines.write(f"{TITLE} {images_digest}\n")
        table = csv.writer(lines, delimiter="\t", lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(_cells(decision) for decision in decisions)
        lines.detach()


def _cells(decision: Decision) -> Sequence[str]:
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
