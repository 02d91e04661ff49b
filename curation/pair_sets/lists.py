"""Reads lists of pairs: LFW's ``pairs.txt``, CALFW's, and two paths with a label.

===================  ===========================================================================
``NAME I J``         images I and J of one person: LFW's form. The images are ``NAME/NAME_0001.jpg``
                     (or .jpeg, .png) below the folder of images. A first line of one or two
                     numbers, folds and pairs of each kind, is skipped. I and J may be file names.
``NAME I OTHER J``   image I of one person and J of another
``A B SAME``         two paths, and 1 or 0 (true, yes, same, genuine, ...); numbers in more columns,
                     such as a score, are ignored if it is clear which is SAME
``SAME A B``         the same in another order
``PATH FOLD``        CALFW's and CPLFW's form: two lines are a pair, of two people if FOLD is 0
===================  ===========================================================================

Words are separated by tabs, commas, semicolons or blanks, depending on the first line. If the first
line names a column ``same``, ``label``, ..., that one is taken and other columns besides the two
images are ignored. Other column names, and comments (``# ...``), are skipped.
"""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.pair_sets.forms import (
    FORMS,
    Found,
    PairForm,
    form_of,
    half,
    is_number,
    named_columns,
    words_of,
)
from curation.pairs import MAX_IMAGES
from curation.text_files import SEPARATORS, is_comment, text_lines, with_slashes

MOST_PAIRS = MAX_IMAGES // 2
_HEADING = re.compile(r"[^\W\d][\w :.-]*")
_NUMBERED = re.compile(r"_\d+(\.\w+)?$")
ENDINGS = (".jpg", ".jpeg", ".png")
Line = tuple[int, str]
"""Its number, and the text"""


class ListedPair(NamedTuple):
    """A line of a list: two paths, whether they show one person, and the line number."""

    first: Path
    second: Path
    same: bool
    line: int


def read_pair_list(
    path: Path, images: Path | None = None, has_numbers: bool = False
) -> list[ListedPair]:
    """The pairs that the list ``path`` names, in order.

    Paths are relative to the folder ``images``, or to that of the list. With ``has_numbers`` images
    may be numbers, so that three numbers are a pair and not LFW's form. Raises ``UserError`` with
    the line if one is malformed, and if there are more than ``MOST_PAIRS``; does not check that the
    files exist.
    """
    root = path.absolute().parent if images is None else images
    pairs: list[ListedPair] = []
    for number, (one, other, same) in _found(path, has_numbers):
        if len(pairs) == MOST_PAIRS:
            raise UserError(
                f"{path} has more than {MOST_PAIRS:,} pairs; for more, evaluate a store or view, "
                "of which all pairs are measured"
            )
        first, second = (root / with_slashes(word, root) for word in (one, other))
        pairs.append(ListedPair(first, second, same, number))
    return pairs


def _found(path: Path, has_numbers: bool) -> Iterator[tuple[int, Found]]:
    """The number of each pair's line, and the pair."""
    lines = (line for line in text_lines(path, "a list of pairs") if not is_comment(line[1]))
    first = next(lines, None)
    if first is not None and _is_counts(first[1]):
        first = next(lines, None)
    if first is None:
        raise UserError(f"{path} names no pairs; expected lines {FORMS}")
    second = next(lines, None)
    where = f"{path}: line {first[0]}"
    form = None if second is None else named_columns(first[1], second[1], where)
    rows = chain([second], lines) if second is not None else lines
    if form is None:
        form = form_of(first[1], has_numbers)
        if form is not None or second is None or not _is_heading(first[1]):
            rows = chain([first], rows)
        else:
            form, where = form_of(second[1], has_numbers), f"{path}: line {second[0]}"
            first = second
    if form is None:
        raise UserError(
            f"{where}: {first[1][:60]!r} is not a pair; expected lines {FORMS}, separated by "
            "tabs, commas, semicolons or blanks; of more columns, name that of SAME in the first "
            "line: image1,image2,same,..."
        )
    yield from _of_two_lines(rows, form, path) if form.read is half else _by_line(rows, form, path)


def _by_line(lines: Iterator[Line], form: PairForm, path: Path) -> Iterator[tuple[int, Found]]:
    for number, line in lines:
        found = form.cut(line)
        if found is None:
            raise UserError(
                f"{path}: line {number}: {line[:60]!r} is not a pair; the lines are {FORMS}, all "
                "of one form"
            )
        yield number, found


def _of_two_lines(lines: Iterator[Line], form: PairForm, path: Path) -> Iterator[tuple[int, Found]]:
    """CALFW's pairs. That names of images fit is checked, because lists of labelled images look
    the same.
    """
    for number, line in lines:
        one, other = form.cut(line), form.cut(next(lines, (number, ""))[1])
        if (
            one is None
            or other is None
            or one[1:] != other[1:]
            or (_person(one[0]) == _person(other[0])) != one[2]
        ):
            raise UserError(
                f"{path}: line {number}: {line[:60]!r} and the next line are no pair of CALFW's "
                "form, PATH FOLD twice: two people NAME_0001.jpg if FOLD is 0, otherwise one; "
                f"expected such lines, or {FORMS}"
            )
        yield number, (one[0], other[0], one[2])


def _person(path: str) -> str:
    """The name in ``NAME_0001.jpg``."""
    return _NUMBERED.sub("", path.replace("\\", "/").rpartition("/")[2])


def _is_counts(line: str) -> bool:
    """Whether the line has LFW's numbers of folds and pairs."""
    words = line.replace(",", " ").replace(";", " ").split()
    return len(words) <= 2 and all(map(is_number, words))


def _is_heading(line: str) -> bool:
    separator = next((mark for mark in SEPARATORS if mark in line), " ")
    return all(_HEADING.fullmatch(word) for word in words_of(line, separator) if word)


def with_endings(path: Path) -> list[Path]:
    """``path`` itself, and with each of `ENDINGS`."""
    return [path.parent / f"{path.name}{ending}" for ending in ("", *ENDINGS)]


def image_at(path: Path) -> Path:
    """The file at ``path``, with one of `ENDINGS` if there is none; LFW's lists omit them."""
    if path.suffix.lower() in ENDINGS:
        return path
    try:
        return next(
            (file for file in with_endings(path) if file.exists() and not file.is_dir()), path
        )
    except OSError:  # not a valid file name
        return path
