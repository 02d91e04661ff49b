"""What a submit states about a job besides its spec: its place, its label, its dependencies."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from curation.errors import UserError

HIGHEST_PRIORITY = 1000
"""The lowest is its negative; 0 is the default."""
LABEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}"
_LONGEST_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class Placing:
    """A job's place among the others; ``UserError`` for values out of range.

    ``None`` keeps the value of an earlier submit of the job.
    """

    priority: int | None = None
    """Higher starts first; within one priority, the order of submission decides."""
    hold: bool = False
    """Do not start it until it is resumed."""
    label: str | None = None
    """A word that several jobs share; empty removes an earlier one."""
    after: tuple[str, ...] | None = None
    """Jobs that must be done before it starts; empty removes earlier ones."""

    def __post_init__(self) -> None:
        if self.priority is not None and abs(self.priority) > HIGHEST_PRIORITY:
            # The value is not shown: Python refuses to print integers with many digits.
            raise UserError(f"a priority is between {-HIGHEST_PRIORITY} and {HIGHEST_PRIORITY}")
        if self.label:
            check_label(self.label)


AS_BEFORE = Placing()
"""Keeps everything from earlier submits"""


def names_after(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """``Placing.after`` from a command or a request: a single empty name removes all."""
    return None if names is None else tuple(name for name in names if name)


def check_label(label: str) -> str:
    """Return ``label`` if it is valid, else raise ``UserError``."""
    if re.fullmatch(LABEL_PATTERN, label):
        return label
    raise UserError(
        f"{label[:_LONGEST_SHOWN]!r} is not a label; allowed: up to 64 of A-Z a-z 0-9 . _ : / @ + "
        f"-, starting with a letter or a digit"
    )
