"""Messages about unknown names: the likely name, or all known ones."""

import textwrap
from collections.abc import Iterable
from difflib import get_close_matches

from curation.errors import UserError

MOST_SUGGESTED = 3
MOST_LISTED = 100
MOST_COMPARED = 20_000
"""Maximum number of names to compare; a folder may hold any number."""
LINE, LONGEST_NAME = 74, 80
"""Characters; a list that fits on one line is part of the sentence."""


def unknown(what: str, name: object, known: Iterable[str], then: str = "") -> UserError:
    """The error for a ``name`` that is not in ``known``; ``then`` is the advice.

    ::

        there is no check 'overlapp'; did you mean 'overlap'?
        there is no recipe 'cake'; there are: drawn-faces, ms1m, sample
    """
    given = str(name)[:LONGEST_NAME]
    return UserError(f"there is no {what} {given!r}{hint(given, known, then)}")


def hint(name: str, known: Iterable[str], then: str = "") -> str:
    """The end of a message: likely names, or else all names; and ``then``."""
    known = list(known)
    # If there is a likely name, the others are not helpful.
    likely = meant(name, known)
    return f"{likely} {then}".rstrip() if likely else listed(known, then)


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` to append to a message that says what is allowed, or nothing."""
    likely = suggestions(name, known)
    return f"; did you mean {_either(likely)}?" if likely else ""


def _either(names: list[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def suggestions(name: str, known: Iterable[str]) -> list[str]:
    """The names that ``name`` may mean, most likely first."""
    plain: dict[str, str] = {}
    for each in list(known)[:MOST_COMPARED]:
        plain.setdefault(_plain(each), each)
    wanted = _plain(name[:LONGEST_NAME])
    close = get_close_matches(wanted, plain, MOST_SUGGESTED, 0.7)
    close += [each for each in plain if len(wanted) > 2 and each.startswith(wanted)]
    close += [each for each in plain if wanted and each.endswith(f"/{wanted}")]
    close += [each for each in plain if each and wanted.endswith(f"/{each}")]
    return [plain[each] for each in dict.fromkeys(close)][:MOST_SUGGESTED]


def listed(names: Iterable[str], then: str = "") -> str:
    """The end of a message: all names, on separate lines if there are many, and ``then``."""
    names = list(names)
    then = f"; {then}" if then else ""
    if not names:
        return f"; there are none{then}"
    shown = names[:MOST_LISTED]
    if len(names) > MOST_LISTED:
        shown.append(f"and {len(names) - MOST_LISTED:,} more")
    if len(text := ", ".join(shown)) <= LINE:
        return f"; there are: {text}{then}"
    return f"{then}; there are:\n  {in_lines(shown)}"


def in_lines(names: Iterable[str], indent: str = "  ") -> str:
    """Names in lines that fit a terminal, indented after the first line."""
    lines = textwrap.wrap(", ".join(names), LINE, break_long_words=False, break_on_hyphens=False)
    return f"\n{indent}".join(lines)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
