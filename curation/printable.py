"""Escaping and shortening untrusted text for a terminal."""

import re
import shlex

UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: colours, titles and cursor movements begin with them
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff"  # line ends, text direction
    "\u00ad\u180e\u200b\u2060-\u2065\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible characters
    "\ud800-\udfff]"  # Python's replacement for file names that are not UTF-8
)


def printable(text: object) -> str:
    """``text`` on one line, with escapes for characters that would move, colour or reorder it."""
    return UNPRINTABLE.sub(_escape, str(text))


def shortened(text: str, most: int) -> str:
    """The first ``most`` characters, with a note of how many more there are."""
    more = len(text) - most
    return text if more <= 0 else f"{text[:most]} ... ({more:,} more characters)"


def argument(path: object) -> str:
    """A path as one word of a command that a message advises."""
    return shlex.quote(str(path))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
