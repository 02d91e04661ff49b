"""A list of image files as a source: one line per image.

Supported forms, separated by tabs, commas, semicolons or spaces:

- ``KEY LABEL PATH``, MXNet's ``.lst``; further labels before PATH are ignored.
- ``ALIGNED PATH LABEL``, insightface's ``.lst``; a box and landmarks after LABEL are ignored.
- ``PATH LABEL``, used by Caffe, FaceX-Zoo and most others, also with these.
- ``LABEL PATH``.
- ``PATH NAME`` or ``NAME PATH``: the name of an identity, as in MS-Celeb-1M's lists.
- ``PATH``: images without labels.
- Columns with names, see ``list_tables``.

A line that begins with ``#`` and a blank is a comment. The first line may be a heading. It must
then name the column of labels as one (see ``label_choice``), because ages are not identities.

Numbers distinguish the forms; next to a NAME, the suffix of an image file marks the path. It must
be clear on every line which word is the path. The first line determines the form of all. KEY and
LABEL are whole numbers from 0. LABEL may be written as ``5.000000``, and is -1 for an image without
one. The default for KEY is the image's number, from 0. PATH is relative to the list's folder.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.labels import UNLABELLED
from curation.missing_files import why_missing
from curation.sources.entries import MISSING, MOST_LABEL, LabelNumbers
from curation.sources.image_files import ImageFile, ImageFiles
from curation.sources.label_choice import (
    LABEL_KEYS,
    USUAL,
    LabelChoice,
    is_label_column,
    no_label,
)
from curation.sources.list_tables import (
    JSON_LINES,
    PATH_KEYS,
    NamedColumns,
    columns_of,
    columns_without_labels,
    listed_files,
)
from curation.sources.opening import source
from curation.text_files import (
    SEPARATORS,
    is_comment,
    split_line,
    text_lines,
    unquoted,
    with_slashes,
)

SUFFIXES = frozenset({".lst", ".list", ".txt", ".tsv", ".csv", JSON_LINES})
_OF_OTHER_KINDS = frozenset({".tar", ".tgz", ".gz", ".zip", ".parquet", ".rec"})
"""A text file with such a suffix is a failed download, not a list"""
_FORMS = "KEY LABEL PATH, ALIGNED PATH LABEL, PATH LABEL, LABEL PATH, PATH NAME, NAME PATH, or PATH"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_BARE_PATH = re.compile(r"[^\s,;]+\.(jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE | re.DOTALL)
_HEADING = re.compile(r"[^\W\d][\w ]*")
_BEHIND_ALIGNED = (1, 5, 15)
"""Numbers after insightface's path: a label, a box of four, five landmarks"""
_BEHIND_PATH = (1, 5, 11, 15)
"""Numbers after other paths, which may have landmarks without a box, as DeepGlint's and RFW's"""
_LONGEST_PATH = 4096


class _Words(NamedTuple):
    """The numbers before the path, the path, and the numbers after it."""

    before: list[str]
    path: str
    behind: list[str]


class ListForm(NamedTuple):
    """The position of the path in a line: after ``before`` words; the label precedes or follows."""

    separator: str
    before: int
    label_behind: bool
    is_named: bool = False
    """Whether the label is a name instead of a number"""
    more: int = 0
    """Numbers after PATH LABEL, such as landmarks"""

    def __str__(self) -> str:
        if self.is_named:
            names = ["PATH", "NAME"] if self.label_behind else ["NAME", "PATH"]
        elif self.before == 0:
            names = ["PATH", "LABEL"]
        elif self.label_behind:
            names = ["ALIGNED", "PATH", "LABEL"]
        else:
            names = ["LABEL", "PATH"] if self.before == 1 else ["KEY", "LABEL", "PATH"]
        return f" {SEPARATORS[self.separator]} ".join(names)

    @property
    def has_keys(self) -> bool:
        return self.before > 1

    def cut(self, line: str) -> _Words | None:
        """The parts of a line; None if it has too few or too many words."""
        words = _split(line, self.separator)
        behind = int(self.label_behind) + self.more
        if self.label_behind and self.before:  # ALIGNED
            behind = _count_numbers(reversed(words))
        if len(words) <= self.before + behind or behind < self.label_behind:
            return None
        if self.separator == " ":  # only the path may contain spaces
            *before, rest = line.split(None, self.before)
            path, *after = rest.rstrip().rsplit(None, behind)
            return _Words(before, unquoted(path), after)
        if len(words) > self.before + 1 + behind:
            return None
        return _Words(words[: self.before], words[self.before], words[self.before + 1 :])

    @property
    def label_place(self) -> int:
        """The number of the label's column, from 0."""
        if self.label_behind:
            return self.before + 1
        return 1 if self.has_keys else 0

    def names(self, heading: str) -> list[str]:
        """The names of the columns in a heading; [] if it is a title of the list or a comment."""
        words = _split(heading.lstrip("# "), self.separator)
        count = self.before + 1 + int(self.label_behind) + self.more
        return words if len(words) == count and all(map(_HEADING.fullmatch, words)) else []

    def label(self, words: _Words) -> str:
        if self.label_behind:
            return words.behind[0]
        return words.before[1 if self.has_keys else 0]


def _is_list(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in _OF_OTHER_KINDS:
        return False
    kind = None if suffix in SUFFIXES else detect_kind(path)
    return suffix in SUFFIXES or (kind is not None and kind.name in ("text", "csv"))


class ListedFiles(ImageFiles):
    """The images that a list names."""

    choices = frozenset({"key", "folder"})

    def __init__(self, path: Path, files: Iterable[ImageFile], unread: Sequence[str] = ()) -> None:
        super().__init__("list", path, path.absolute().parent, files)
        self._unread = unread
        """The columns of a table without labels"""

    def choose_labels(self, choice: LabelChoice) -> ImageFiles:
        if not choice.key:
            return super().choose_labels(choice)
        chosen = read_list(self.path, choice)
        chosen.choice = choice
        return chosen

    def _why_missing(self, path: Path) -> str:
        is_below = path.is_relative_to(self._root)
        start = f" (relative paths start at the list's folder, {self._root})" if is_below else ""
        return why_missing(path) or start

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        yield from self._files.listed_again()
        if not identities and self._unread:
            yield no_label("column", self._unread, self.choice)


@source("list", "a list of images (.lst, .txt, .csv)", _is_list)
def read_list(path: Path, choice: LabelChoice = USUAL) -> ListedFiles:
    """The images that the list ``path`` names; a ``UserError`` names file and line of a mistake."""
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path} names no images")
    columns = columns_of(path, first[1], choice)
    if columns is not None:
        return _of_table(path, columns, chain([first], lines))
    form, heading = _form_of(first[1]), first
    if form is None and is_heading(first[1]):
        first = next(lines, first)
        form = _form_of(first[1])
        names = [] if form is None else form.names(heading[1])
        if form is None or (names and not is_label_column(names[form.label_place])):
            columns = columns_without_labels(heading[1])
            if columns is not None:
                return _of_table(path, columns, chain([heading, first], lines))
            if form is not None:
                raise _unknown_columns(path, heading[0], names)
    if form is None and _BARE_PATH.fullmatch(first[1].strip()):
        bare = _bare_files(chain([first], lines), path)
        return ListedFiles(path, bare)
    if form is None:
        raise UserError(
            f"{path}: line {first[0]}: {first[1][:60]!r} matches none of the forms {_FORMS}, "
            f"separated by tabs, commas, semicolons or blanks; KEY and LABEL are whole numbers"
        )
    named = _image_files(chain([first], lines), form, path)
    files = ListedFiles(path, named)
    _check_keys(files, first[0], path)
    return files


def _unknown_columns(path: Path, line: int, names: Sequence[str]) -> UserError:
    return UserError(
        f"{path}: line {line}: none of the columns {', '.join(names)[:200]} has the name of a "
        f"label ({', '.join(LABEL_KEYS[:4])}, ...); name the column of files {PATH_KEYS[0]}, "
        "separate the columns by tabs or commas, and choose that of identities with --label-key"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines that are neither blank nor a comment; a path may begin with ``#``."""
    lines = text_lines(path, "a list of images")
    return ((number, line) for number, line in lines if not is_comment(line))


def _of_table(path: Path, columns: NamedColumns, lines: Iterator[tuple[int, str]]) -> ListedFiles:
    rows = listed_files(lines, columns, path)
    root = path.absolute().parent
    native = (file._replace(name=with_slashes(file.name, root)) for file in rows)
    return ListedFiles(path, native, columns.unread)


def _bare_files(lines: Iterator[tuple[int, str]], path: Path) -> Iterator[ImageFile]:
    root = path.absolute().parent
    for key, (number, line) in enumerate(lines):
        name = line.strip()
        _check_path(name, f"{path}: line {number}", "PATH")
        yield ImageFile(key, UNLABELLED, with_slashes(name, root))


def _image_files(
    lines: Iterator[tuple[int, str]], form: ListForm, path: Path
) -> Iterator[ImageFile]:
    names, root = LabelNumbers(), path.absolute().parent
    for count, (number, line) in enumerate(lines):
        where = f"{path}: line {number}"
        words = form.cut(line)
        if words is None:
            raise UserError(f"{where}: {line[:60]!r} is not {form}, as the first line is")
        _check_path(words.path, where, str(form))
        key = count
        if form.has_keys:
            key = _whole(words.before[0], "key", where)
        label = _label(form.label(words), where, names if form.is_named else None)
        yield ImageFile(key, label, with_slashes(words.path, root))


def _check_keys(files: ListedFiles, first: int, path: Path) -> None:
    """Raise ``UserError`` if two lines have the same key; the first image is in line ``first``."""
    keys = files.keys()
    order = np.argsort(keys, kind="stable")
    repeated = order[1:][keys[order[1:]] == keys[order[:-1]]]
    if not repeated.size:
        return
    again = int(repeated.min())
    before = int(np.flatnonzero(keys == keys[again])[0])
    lines = (number for number, _ in _lines(path) if number >= first)
    one, other = next(islice(lines, before, None)), next(islice(lines, again - before - 1, None))
    raise UserError(f"{path}: line {other}: the key {keys[again]} is already in line {one}")


def _check_path(path: str, where: str, form: str) -> None:
    if not path:
        raise UserError(f"{where}: the path is empty; expected {form}")
    if len(path) > _LONGEST_PATH:
        raise UserError(
            f"{where}: the path has {len(path):,} characters; the limit is {_LONGEST_PATH:,}"
        )


def _label(word: str, where: str, names: LabelNumbers | None) -> int:
    if names is not None:
        try:
            return names.of(word)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
    if word in MISSING or (_NUMBER.fullmatch(word) and float(word) == UNLABELLED):
        return UNLABELLED
    return _whole(word, "label", where)


def _form_of(line: str) -> ListForm | None:
    """The form of a line, preferring the separator that leaves an image file's name as the path."""
    forms = [_form_with(line, separator) for separator in SEPARATORS if separator in line]
    found = [(form, form.cut(line)) for form in forms if form is not None]
    named = [form for form, words in found if words is not None and _IMAGE.fullmatch(words.path)]
    return next((form for form in (*named, *(form for form, _ in found))), None)


def _form_with(line: str, separator: str) -> ListForm | None:
    words = _split(line, separator)
    before, behind = _count_numbers(words), _count_numbers(reversed(words))
    if before == len(words):  # a path may be a number
        before, behind = len(words) - 1, 0
    if before == 1 and behind in _BEHIND_ALIGNED:
        form = ListForm(separator, before, label_behind=True)
    elif before == 0 and behind in _BEHIND_PATH:
        form = ListForm(separator, before, label_behind=True, more=behind - 1)
    elif before and not behind:
        form = ListForm(separator, before, label_behind=False)
    else:
        are_images = [_IMAGE.fullmatch(word) is not None for word in words]
        if sorted(are_images) != [False, True] or not all(words):
            return None
        label_behind = are_images[0]
        if separator == " " and not label_behind and "/" not in words[1]:
            return None  # a path with a space rather than a name and a path
        form = ListForm(separator, 0 if label_behind else 1, label_behind, is_named=True)
    return form if form.cut(line) else None


def is_heading(line: str) -> bool:
    """Whether a line is a column heading or a comment instead of an image."""
    if line.lstrip().startswith("#"):
        return True
    separator = next((mark for mark in "\t,;" if mark in line), " ")
    return all(_HEADING.fullmatch(word) for word in _split(line, separator) if word)


def _split(line: str, separator: str) -> list[str]:
    words = split_line(line, separator)
    # A trailing separator, but not an empty path.
    if words and words[-1] == "" and not all(map(_NUMBER.fullmatch, words[:-1])):
        words.pop()
    return words


def _count_numbers(words: Iterable[str]) -> int:
    """How many leading words are numbers."""
    return sum(1 for _ in takewhile(_NUMBER.fullmatch, words))


def _whole(word: str, what: str, where: str) -> int:
    value = float(word) if _NUMBER.fullmatch(word) else -1.0
    if not (value.is_integer() and 0 <= value < MOST_LABEL):
        none = ", and -1 for none" if what == "label" else ""
        raise UserError(
            f"{where}: the {what} is {word[:40]!r}; allowed are whole numbers from 0 to "
            f"{MOST_LABEL - 1}{none}"
        )
    return int(value)
