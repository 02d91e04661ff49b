"""What a submit says of a job beside its spec: when it starts, and what it belongs to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from curation.errors import UserError

HIGHEST_PRIORITY = 1000
"""And the lowest is as far below 0, which is every job's that says nothing."""
LABEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}"
_LONGEST_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class Placing:
    """A job's place among the others; ``UserError`` for what is out of range.

    What is ``None`` stays as an earlier submit of the job said it.
    """

    priority: int | None = None
    """Higher starts first; within one priority the order of submission decides."""
    hold: bool = False
    """Not to be started until it is resumed."""
    label: str | None = None
    """One word that several jobs share; empty takes an earlier one away."""
    after: tuple[str, ...] | None = None
    """Jobs that must be done before it starts; empty takes earlier ones away."""

    def __post_init__(self) -> None:
        if self.priority is not None and abs(self.priority) > HIGHEST_PRIORITY:
            # Not shown: Python refuses to print integers of many digits.
            raise UserError(f"a priority is between {-HIGHEST_PRIORITY} and {HIGHEST_PRIORITY}")
        if self.label:
            check_label(self.label)


AS_BEFORE = Placing()
"""Nothing is said."""


def said_after(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """``Placing.after`` as a command or a request says it: one empty name takes others away."""
    return None if names is None else tuple(name for name in names if name)


def check_label(label: str) -> str:
    """``label`` where it may be one; ``UserError`` else."""
    if re.fullmatch(LABEL_PATTERN, label):
        return label
    raise UserError(
        f"{label[:_LONGEST_SHOWN]!r} is not a label; allowed: up to 64 of A-Z a-z 0-9 . _ : / @ + "
        f"-, starting with a letter or a digit"
    )
