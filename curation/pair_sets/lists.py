"""Reads lists of pairs: LFW's ``pairs.txt``, and two paths with a label.

===================  ===========================================================================
``NAME I J``         images I and J of one person: LFW's form. The images are ``NAME/NAME_0001.jpg``
                     (or .jpeg, .png) below the folder of images. A first line of one or two
                     numbers, folds and pairs of each kind, is skipped.
``NAME I OTHER J``   image I of one person and J of another
``A B SAME``         two paths, and 1 or 0 (also true and false, yes and no)
``SAME A B``         the same in another order
===================  ===========================================================================

Words are separated by tabs, commas, semicolons or blanks, depending on the first line. Column names
in the first line are skipped, such as ``image1,image2,same``.
"""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.pairs import MAX_IMAGES
from curation.text_files import SEPARATORS, split_line, text_lines
from curation.text_numbers import whole

MOST_PAIRS = MAX_IMAGES // 2
_FORMS = "NAME I J and NAME I OTHER J (LFW's pairs.txt), A B SAME, or SAME A B"
_SAME = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "-1", "-1.0", "false", "no"), False),
}
_COLUMNS = ("same", "label", "genuine", "match", "pair", "path", "file", "image", "img", "name")
"""Parts of the usual names of columns"""
ENDINGS = (".jpg", ".jpeg", ".png")


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
    lines = text_lines(path, "a list of pairs")
    first = next(lines, None)
    if first is not None and _is_heading(first[1]):
        first = next(lines, None)
    if first is None:
        raise UserError(f"{path} names no pairs; expected lines {_FORMS}")
    separator, read = _form_of(first[1], f"{path}: line {first[0]}", has_numbers)
    pairs: list[ListedPair] = []
    for number, line in chain([first], lines):
        found = read(split_line(line, separator))
        if found is None:
            raise UserError(
                f"{path}: line {number}: {line[:60]!r} is not a pair; the lines are {_FORMS}, all "
                "of one form"
            )
        if len(pairs) == MOST_PAIRS:
            raise UserError(
                f"{path} has more than {MOST_PAIRS:,} pairs; for more, evaluate a store or view, "
                "of which all pairs are measured"
            )
        one, other, same = found
        pairs.append(ListedPair(root / one, root / other, same, number))
    return pairs


Found = tuple[str, str, bool]


def _is_heading(line: str) -> bool:
    """Whether the line has LFW's numbers of folds and pairs, or column names."""
    words = line.lower().replace(",", " ").replace(";", " ").split()
    if len(words) <= 2 and all(map(_is_number, words)):
        return True
    can_be_names = not any(_is_number(word) or set(word) & set("/\\.") for word in words)
    return can_be_names and any(part in word for word in words for part in _COLUMNS)


def _form_of(
    line: str, where: str, has_numbers: bool
) -> tuple[str, Callable[[list[str]], Found | None]]:
    for separator in SEPARATORS:
        words = split_line(line, separator)
        is_numbers = has_numbers and all(map(_is_number, words))
        for read in _READERS[1:] if is_numbers else _READERS:
            if separator in line and read(words) is not None:
                return separator, read
    raise UserError(f"{where}: {line[:60]!r} is not a pair; expected lines {_FORMS}")


def _lfw(words: list[str]) -> Found | None:
    match words:
        case [name, one, other] if _is_number(one) and _is_number(other):
            return _numbered(name, one), _numbered(name, other), True
        case [name, one, another, other] if _is_number(one) and _is_number(other):
            return _numbered(name, one), _numbered(another, other), False
    return None


def _numbered(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _paths_first(words: list[str]) -> Found | None:
    if len(words) != 3 or words[2].lower() not in _SAME:
        return None
    return words[0], words[1], _SAME[words[2].lower()]


def _same_first(words: list[str]) -> Found | None:
    return _paths_first([*words[1:], words[0]]) if words else None


_READERS = (_lfw, _paths_first, _same_first)


def _is_number(word: str) -> bool:
    return whole(word, 9) is not None


def image_at(path: Path) -> Path:
    """The file at ``path``, with one of `ENDINGS` if there is none; LFW's lists omit them."""
    if path.suffix.lower() in ENDINGS:
        return path
    found = [path, *(path.with_name(path.name + ending) for ending in ENDINGS)]
    try:
        return next((file for file in found if file.exists() and not file.is_dir()), path)
    except OSError:  # not a valid file name
        return path
