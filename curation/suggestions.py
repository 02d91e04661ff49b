"""What to say of a name that nothing has: which it may mean, and which there are."""

import textwrap
from collections.abc import Iterable
from difflib import get_close_matches

from curation.errors import UserError

MOST_SUGGESTED = 3
MOST_LISTED = 100
MOST_COMPARED = 20_000
"""Names; a folder may hold any number."""
LINE, LONGEST_NAME = 74, 80
"""Characters: a list that fits into one goes into the sentence."""


def unknown(
    what: str,
    name: object,
    known: Iterable[str],
    then: str = "",
    where: str = "",
    error: type[UserError] = UserError,
) -> UserError:
    """The error for a ``name`` that is none of ``known``; ``then`` is what to do about it.

    ``where`` ("in FOLDER") says in which place it was looked for.

    ::

        there is no loss 'arcfase'; did you mean 'arcface'?
    there is no recipe 'cake'; there are: drawn-faces, ms1m, sample
    """
    names, given = list(known), str(name)
    message = f"there is no {what} {given[:LONGEST_NAME]!r} {where}".rstrip()
    likely = suggestions(given, names)
    if not likely:
        return error(message + listed(names, then))
    # All the other names say no more where the one that was meant is known.
    return error(f"{message}; did you mean {' or '.join(map(repr, likely))}? {then}".rstrip())


def suggestions(name: str, known: Iterable[str]) -> list[str]:
    """The names that ``name`` may mean, the likeliest first."""
    plain: dict[str, str] = {}
    for each in list(known)[:MOST_COMPARED]:
        plain.setdefault(_plain(each), each)
    wanted = _plain(name[:LONGEST_NAME])
    close = get_close_matches(wanted, plain, MOST_SUGGESTED, 0.7)
    close += [each for each in plain if len(wanted) > 2 and each.startswith(wanted)]
    return [plain[each] for each in dict.fromkeys(close)][:MOST_SUGGESTED]


def listed(names: Iterable[str], then: str = "") -> str:
    """The end of a message: all names, in lines of their own where they are many, and ``then``."""
    names = sorted(names)
    then = f"; {then}" if then else ""
    if not names:
        return f"; there are none{then}"
    shown = names[:MOST_LISTED]
    if len(names) > MOST_LISTED:
        shown.append(f"and {len(names) - MOST_LISTED:,} more")
    text = ", ".join(shown)
    if len(text) <= LINE:
        return f"; there are: {text}{then}"
    lines = textwrap.wrap(text, LINE, break_long_words=False, break_on_hyphens=False)
    return "\n  ".join([f"{then}; there are:", *lines])


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
