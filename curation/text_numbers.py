"""Numbers in text of others: ASCII digits and nothing else.

``int`` and ``float`` also take ``1_0``, digits of other scripts, blanks around them, and ``nan``.
"""

import re

_WHOLE = re.compile("[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})(e[+-]?[0-9]{1,3})?", re.I)


def whole(word: str, digits: int = 18) -> int | None:
    """A whole number from 0 with at most so many digits (18); None for anything else."""
    return int(word) if len(word) <= digits and _WHOLE.fullmatch(word) else None


def signed(word: str) -> int | None:
    """A whole number of up to 40 digits, with a sign or without; None for anything else."""
    found = whole(word[1:] if word[:1] in ("+", "-") else word, 40)
    return None if found is None else -found if word[0] == "-" else found


def decimal(word: str) -> float | None:
    """A decimal number, also as ``1e-3``; None for anything else. It may be infinite."""
    return float(word) if _DECIMAL.fullmatch(word) else None
