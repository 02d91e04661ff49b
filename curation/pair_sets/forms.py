"""The forms of lists of pairs: how each reads a line, and which a list has."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.sources.folders import LOOKS_LIKE_IMAGES
from curation.text_files import SEPARATORS, split_line
from curation.text_numbers import decimal, whole

FORMS = (
    "NAME I J and NAME I OTHER J (LFW's pairs.txt), A B SAME, SAME A B, or PATH FOLD on two lines "
    "(CALFW)"
)
_GENUINE = ("same", "genuine", "match", "positive", "pos")
_IMPOSTOR = (
    *("different", "diff", "impostor", "imposter", "nonmatch", "non-match", "mismatch"),
    *("negative", "neg"),
)
_SAME = {
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y", *_GENUINE), True),
    **dict.fromkeys(("0", "0.0", "-1", "-1.0", "false", "f", "no", "n", *_IMPOSTOR), False),
}
_SAME_COLUMNS = (
    *("same", "is_same", "issame", "same_person", "genuine", "is_genuine", "match", "is_match"),
    *("label", "labels", "target", "y", "gt", "ground_truth", "pair"),
)
"""Names of the column that tells whether the people are the same, in order of preference"""

Found = tuple[str, str, bool]
"""Two images, and whether they show one person"""


class PairForm(NamedTuple):
    """How lines are read; ``read`` is ``half`` for lines of which two are a pair."""

    separator: str
    read: Callable[[list[str]], Found | None]

    def cut(self, line: str) -> Found | None:
        return self.read(words_of(line, self.separator))


def words_of(line: str, separator: str) -> list[str]:
    """The words of a line without empty ones at its end."""
    words = split_line(line, separator)
    while words and not words[-1]:
        words.pop()
    return words


def named_columns(heading: str, row: str, where: str) -> PairForm | None:
    """The form of lists whose first line names the column of SAME; None if it does not."""
    for separator in SEPARATORS:
        names = [word.lower().replace(" ", "_") for word in split_line(heading, separator)]
        cells = split_line(row, separator)
        same = next((names.index(name) for name in _SAME_COLUMNS if name in names), None)
        if same is None or len(names) < 3 or len(cells) != len(names) or any(map(_is_image, names)):
            continue
        paths = [place for place, cell in enumerate(cells) if _is_image(cell)]
        if len(paths) != 2:
            paths = [place for place in range(len(names)) if place != same]
            if cells[same].lower() in (*_GENUINE, *_IMPOSTOR):
                continue  # A B same, not a heading
        if len(paths) != 2:
            raise UserError(
                f"{where}: which of the columns {', '.join(names)[:200]} are the images? Keep "
                f"three: two of images, and {names[same]}"
            )
        places = (paths[0], paths[1], same)
        return PairForm(separator, partial(_in_columns, places, len(names)))
    return None


def _in_columns(places: tuple[int, int, int], count: int, words: list[str]) -> Found | None:
    """The cells at ``places``: both images, and SAME."""
    if len(words) > count or len(words) <= max(places):
        return None
    one, other, same = (words[place] for place in places)
    return (one, other, _SAME[same.lower()]) if one and other and same.lower() in _SAME else None


def form_of(line: str, has_numbers: bool) -> PairForm | None:
    """The form of lists that have such a line; None if it is no pair."""
    for separator in SEPARATORS:
        words = words_of(line, separator)
        is_numbers = has_numbers and all(map(is_number, words))
        for read in _READERS[1:] if is_numbers else _READERS:
            if separator in line and read(words) is not None:
                return PairForm(separator, read)
        places = _among(words)
        if separator in line and places is not None:
            return PairForm(separator, partial(_in_columns, places, len(words)))
    return None


def _lfw(words: list[str]) -> Found | None:
    match words:
        case [name, one, other] if is_number(one) and is_number(other):
            return _numbered(name, one), _numbered(name, other), True
        case [name, one, another, other] if is_number(one) and is_number(other):
            return _numbered(name, one), _numbered(another, other), False
    return None


def _numbered(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _lfw_files(words: list[str]) -> Found | None:
    """LFW's form with file names instead of numbers."""
    match words:
        case [name, one, other] if _are_files_of(name, one) and _are_files_of(name, other):
            return f"{name}/{one}", f"{name}/{other}", True
        case [name, one, another, other] if _are_files_of(name, one):
            if _are_files_of(another, other):
                return f"{name}/{one}", f"{another}/{other}", False
    return None


def _are_files_of(name: str, file: str) -> bool:
    is_name = not _is_image(name) and name.lower() not in _SAME and not is_number(name)
    return is_name and _is_image(file) and "/" not in file


def _paths_first(words: list[str]) -> Found | None:
    if len(words) != 3 or words[2].lower() not in _SAME:
        return None
    return words[0], words[1], _SAME[words[2].lower()]


def _same_first(words: list[str]) -> Found | None:
    return _paths_first([*words[1:], words[0]]) if words else None


def half(words: list[str]) -> Found | None:
    """A line of CALFW's: the image, its fold, and whether the pair shows one person."""
    if len(words) != 2 or not _is_image(words[0]) or not is_number(words[1]):
        return None
    return words[0], words[1], int(words[1]) != 0


def _among(words: list[str]) -> tuple[int, int, int] | None:
    """The places of two images and SAME among numbers such as a score; None if it is unclear."""
    images = [place for place, word in enumerate(words) if _is_image(word)]
    others = [place for place, word in enumerate(words) if word.lower() in _SAME]
    if len(images) != 2 or len(others) != 1:
        return None
    more = [word for place, word in enumerate(words) if place not in (*images, *others)]
    is_clear = all(decimal(word) is not None for word in more)
    return (images[0], images[1], others[0]) if is_clear else None


_READERS = (_lfw, _lfw_files, _paths_first, _same_first, half)


def is_number(word: str) -> bool:
    return whole(word, 9) is not None


def _is_image(word: str) -> bool:
    return Path(word).suffix.lower() in LOOKS_LIKE_IMAGES
