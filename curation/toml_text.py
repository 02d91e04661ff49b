"""TOML from others: read with bounded time and memory, and one line where it is none.

The standard library's reader takes memory with the square of a dotted key's length, and integers of
any size, which Python then refuses to print.
"""

import tomllib
from typing import Any

from curation.errors import UserError

MOST_DOTS = 32
"""In a line. A key cannot go over several lines, so this bounds how many parts it has."""
_TOO_LARGE = "an integer of more than 64 bits, which TOML does not have"
LARGEST_INTEGER = 2**63 - 1
"""What TOML 1.0 asks of a reader; its integers are signed and have 64 bits."""


def read_toml(text: str, what: str) -> dict[str, Any]:
    """The document in ``text``; ``UserError`` that begins with ``what`` where there is none."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS and not line.lstrip().startswith("#"):
            raise UserError(
                f"{what}: line {number} has {line.count('.'):,} dots; allowed: up to {MOST_DOTS}; "
                "break it into several lines"
            )
    try:
        document = tomllib.loads(text)
        _check_integers(document, what)
    except RecursionError:
        raise UserError(f"{what} is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{what} is not TOML: {error}") from None
    except UserError:
        raise
    except ValueError:  # Python does not read integers of so many digits
        raise UserError(f"{what} has {_TOO_LARGE}") from None
    return document


def _check_integers(value: Any, what: str, key: str = "") -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_integers(inner, what, name)
    elif isinstance(value, list):
        for inner in value:
            _check_integers(inner, what, key)
    elif isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise UserError(f"{what}: {key[:80]!r} is {_TOO_LARGE}")
