"""The exception that every command turns into one clear line."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Result = TypeVar("Result")
_MOST_LISTED = 20


class UserError(ValueError):
    """Input from the user that cannot be used.

    The message is one line: the subject, the value found, what is allowed, and the next step. A
    list may follow in lines that begin with two spaces. Commands print it as ``error: MESSAGE`` and
    exit with 1; a traceback means a bug.
    """


def results_of(tasks: Iterable[Callable[[], Result]]) -> list[Result]:
    """The results of all tasks; if some fail, one ``UserError`` with all their messages."""
    results, errors = [], []
    for task in tasks:
        try:
            results.append(task())
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = [str(error) for error in errors[:_MOST_LISTED]]
        if len(errors) > _MOST_LISTED:
            lines.append(f"and {len(errors) - _MOST_LISTED:,} more")
        raise UserError("\n  ".join(lines))
    return results
