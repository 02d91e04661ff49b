"""Reading untrusted TOML with bounded time and memory, and one-line errors.

The standard library's reader takes memory quadratic in a dotted key's length, and accepts integers
of any size, which Python then refuses to print. Within the limits here, no document was found that
takes a second or 50 MB.
"""

import re
import tomllib
from typing import Any

from curation.errors import UserError
from curation.toml_positions import Location, TomlSource

LARGEST = 1 << 16
"""Characters; a hand-written file is about a page of text."""
MOST_PARTS = 32
"""Parts of a dotted key"""
LARGEST_INTEGER = 2**63 - 1
"""The range that TOML 1.0 requires of a reader: signed 64-bit integers."""
MOST_NESTED = 64
"""Nested arrays and tables"""
_TOO_LARGE = "an integer of more than 64 bits, which TOML does not have"
_MANY_DIGITS = re.compile(r"\d[\d_]{4299}")
_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_REPEATED = re.compile("Cannot overwrite a value|Cannot declare|Duplicate")
_LONGEST_REASON = 200

# Strings end where TOML says, or else at the end of their possible range, so that each character is
# scanned once.
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


def read_toml(text: str, origin: str) -> dict[str, Any]:
    """The document in ``text``; ``UserError`` with ``origin``, line and column if it is invalid.

    ::

        jobs/x.toml:9:1: 'epochs' is given twice, first in line 7
    """
    if len(text) > LARGEST:
        raise UserError(f"{origin} is larger than {LARGEST >> 10} KiB")
    source = TomlSource(text, origin)
    _check_depth(text, source)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(_refusal(str(error), text, source)) from None
    except ValueError:  # Python refuses integers with that many digits
        digits = _MANY_DIGITS.search(text)
        raise UserError(
            f"{source.at_offset(digits.start() if digits else 0)}: {_TOO_LARGE}"
        ) from None
    _check_integers(document, source)
    return document


def _check_depth(text: str, source: TomlSource) -> None:
    """Raise ``UserError`` if a key has too many parts, or values are nested too deeply."""
    dots = depth = 0
    for token in _TOKEN.finditer(text):
        if token["dot"]:
            dots += 1
        elif token["other"]:
            dots = 0
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token["other"], 0)
        if dots == MOST_PARTS:
            raise UserError(
                f"{source.at_offset(token.start())}: a dotted key has more than {MOST_PARTS} "
                "parts; use tables instead"
            )
        if depth > MOST_NESTED:
            raise UserError(
                f"{source.at_offset(token.start())}: nested too deeply; allowed: {MOST_NESTED} "
                "nested arrays and tables"
            )


def _check_integers(value: Any, source: TomlSource, location: Location = ()) -> None:
    if isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _check_integers(inner, source, (*location, part))
    elif isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise UserError(f"{source.at(location)}: {_TOO_LARGE}")


def _refusal(reason: str, text: str, source: TomlSource) -> str:
    """The reader's message, which ends with the position; it may contain a key."""
    if (repeated := source.repeated()) and _REPEATED.match(reason):
        return repeated
    place = _PLACE.search(reason)
    offset = len(text.rstrip())
    if place is not None:
        reason = reason[: place.start()]
        if place["line"] is not None:
            begin = [0, *(found.end() for found in re.finditer("\n", text))][int(place["line"]) - 1]
            offset = begin + int(place["column"]) - 1
    half = _LONGEST_REASON // 2
    if len(reason) > 2 * half:
        reason = f"{reason[:half]}...{reason[-half:]}"
    return f"{source.at_offset(offset)}: not TOML: {reason}"
