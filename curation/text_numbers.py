"""Parsing numbers in untrusted text: ASCII digits and nothing else.

``int`` and ``float`` also accept ``1_0``, digits of other scripts, surrounding spaces, and ``nan``.
"""

import re

_WHOLE = re.compile("[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})(e[+-]?[0-9]{1,3})?", re.I)


def whole(word: str, digits: int = 18) -> int | None:
    """A non-negative integer with at most ``digits`` digits; None for anything else."""
    return int(word) if len(word) <= digits and _WHOLE.fullmatch(word) else None


def signed(word: str) -> int | None:
    """An integer of up to 40 digits with an optional sign; None for anything else."""
    found = whole(word[1:] if word[:1] in ("+", "-") else word, 40)
    return None if found is None else -found if word[0] == "-" else found


def decimal(word: str) -> float | None:
    """A decimal number, also as ``1e-3``; None for anything else. It may be infinite."""
    return float(word) if _DECIMAL.fullmatch(word) else None
