"""TOML from others: read with bounded time and memory, and one line where it is none.

The standard library's reader takes memory with the square of a dotted key's length, and integers of
any size, which Python then refuses to print. Within the limits here no document was found that
takes a second or 50 MB.
"""

import re
import tomllib
from typing import Any

from curation.errors import UserError

LARGEST = 1 << 16
"""Characters. What people write by hand is a page of text."""
MOST_PARTS = 32
"""Of a dotted key."""
LARGEST_INTEGER = 2**63 - 1
"""What TOML 1.0 asks of a reader; its integers are signed and have 64 bits."""
_TOO_LARGE = "an integer of more than 64 bits, which TOML does not have"
_LONGEST_REASON = 200

# Strings end where TOML says, or else at the end of what could be theirs, so that each character is
# looked at once.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{0,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{0,5}"
    r"|\#[^\n]*+"
    r'|(?P<part>"(?:[^"\\\n]|\\[^\n])*+"?' + r"|'[^'\n]*+'?|[\w-]++)"
    r"|(?P<dot>\.)"
    r"|[ \t]++"
    r"|(?P<other>.)",
    re.DOTALL,
)


def read_toml(text: str, what: str) -> dict[str, Any]:
    """The document in ``text``; ``UserError`` that begins with ``what`` where there is none."""
    if len(text) > LARGEST:
        raise UserError(f"{what} is larger than {LARGEST >> 10} KiB")
    _check_keys(text, what)
    try:
        document = tomllib.loads(text)
        _check_integers(document, what)
    except RecursionError:
        raise UserError(f"{what} is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{what} is not TOML: {_shortened(str(error))}") from None
    except UserError:
        raise
    except ValueError:  # Python does not read integers of so many digits
        raise UserError(f"{what} has {_TOO_LARGE}") from None
    return document


def _check_keys(text: str, what: str) -> None:
    dots = 0
    for token in _TOKEN.finditer(text):
        if token["dot"]:
            dots += 1
        elif token["other"]:
            dots = 0
        if dots == MOST_PARTS:
            line = text.count("\n", 0, token.start()) + 1
            raise UserError(
                f"{what}: line {line} has a dotted key of more than {MOST_PARTS} parts; "
                "use tables instead"
            )


def _check_integers(value: Any, what: str, key: str = "") -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_integers(inner, what, name)
    elif isinstance(value, list):
        for inner in value:
            _check_integers(inner, what, key)
    elif isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise UserError(f"{what}: {key[:80]!r} is {_TOO_LARGE}")


def _shortened(reason: str) -> str:
    """The reader's words; a key may stand in them, before the place at their end."""
    half = _LONGEST_REASON // 2
    return reason if len(reason) <= 2 * half else f"{reason[:half]}...{reason[-half:]}"
