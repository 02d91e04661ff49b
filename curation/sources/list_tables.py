"""Lists of images with named columns: tables with a heading, and lines of JSON objects.

Such are the ``metadata.csv`` and ``metadata.jsonl`` of Hugging Face's image folders and the tables
on Kaggle. One column names the file, another the identity; all others are ignored.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.json_text import parse_json
from curation.labels import UNLABELLED
from curation.sources.entries import LabelNumbers
from curation.sources.image_files import ImageFile
from curation.sources.label_choice import LABEL_KEYS, USUAL, LabelChoice, usual_key
from curation.text_files import split_line

PATH_KEYS = (
    *("path", "file_name", "filename", "file", "img_path", "image_path", "file_path", "filepath"),
    *("image", "img", "image_name", "image_id"),
)
"""Names of the column of files, in order of preference; upper and lower case are the same"""
JSON_LINES = ".jsonl"
_EMPTY = ("", None)


class NamedColumns(NamedTuple):
    """How to find the file and the label in a line; ``ValueError`` if they are not there."""

    cut: Callable[[str], tuple[object, object]]
    has_heading: bool
    """Whether the first line is one"""
    unread: Sequence[str] = ()
    """The names, if none of them is that of a label"""


def columns_of(path: Path, first: str, choice: LabelChoice = USUAL) -> NamedColumns | None:
    """The columns of the list ``path`` by its first line.

    None if they have no names, if none has the name of a label, or if they are those of MXNet's
    lists, KEY LABEL PATH. Raises ``UserError`` if ``choice`` names a column that is not there.
    """
    if path.suffix.lower() == JSON_LINES:
        return NamedColumns(partial(_of_object, choice), False, _unlabelled_keys(first, choice))
    table = _heading_of(first)
    if table is None and choice.key:
        raise UserError(
            f"{path}: --label-key needs a first line with the names of the columns, one of them "
            f"{', '.join(PATH_KEYS[:4])}, ...; it is {first[:60]!r}"
        )
    if table is None:
        return None
    label = usual_key(table.words)
    if choice.key:
        by_lower = {word.lower(): word for word in reversed(table.words)}
        label = by_lower.get(choice.key.lower())
        if label is None:
            raise UserError(f"{path} has no column {choice.key}, but {', '.join(table.words)}")
    elif label is None or "key" in map(str.lower, table.words):
        return None
    return NamedColumns(partial(_of_row, table, table.words.index(label)), True)


def columns_without_labels(first: str) -> NamedColumns | None:
    """The columns of a list by its heading, when none is a label's; None if it is no heading."""
    table = _heading_of(first)
    if table is None:
        return None
    others = [word for place, word in enumerate(table.words) if place != table.where]
    return NamedColumns(partial(_of_row, table, None), True, others)


class _Heading(NamedTuple):
    separator: str
    words: list[str]
    where: int
    """The place of the file's name"""


def _heading_of(line: str) -> _Heading | None:
    for separator in "\t,;":
        words = split_line(line, separator)
        names = {word.lower(): place for place, word in enumerate(words)}
        where = next((names[key] for key in PATH_KEYS if key in names), None)
        if where is not None and len(words) > 1:
            return _Heading(separator, words, where)
    return None


def listed_files(
    lines: Iterator[tuple[int, str]], columns: NamedColumns, path: Path
) -> Iterator[ImageFile]:
    """The images that the lines of ``path`` name; ``UserError`` with the line of a mistake."""
    numbers = LabelNumbers()
    for key, (number, line) in enumerate(islice(lines, int(columns.has_heading), None)):
        try:
            name, label = columns.cut(line)
            if not isinstance(name, str) or not name:
                raise ValueError(
                    f"it names no file; expected one in {', '.join(PATH_KEYS[:4])}, ..."
                )
            found = UNLABELLED if label in _EMPTY else numbers.of(label)
        except ValueError as error:
            raise UserError(f"{path}: line {number}: {error}") from None
        yield ImageFile(key, found, name)


def _of_row(table: _Heading, label: int | None, line: str) -> tuple[object, object]:
    words, count = split_line(line, table.separator), len(table.words)
    if len(words) < count or any(words[count:]):
        raise ValueError(f"it has {len(words)} columns, the heading has {count}")
    return words[table.where], None if label is None else words[label]


def _of_object(choice: LabelChoice, line: str) -> tuple[object, object]:
    value = parse_json(line.encode("utf-8", "surrogateescape"))
    if not isinstance(value, dict):
        raise ValueError(f"{line[:40]!r} is not a JSON object with {PATH_KEYS[1]}, {LABEL_KEYS[0]}")
    names = {key.lower(): key for key in value}
    found = next((names[key] for key in PATH_KEYS if key in names), None)
    return None if found is None else value[found], choice.label_in(value)


def _unlabelled_keys(first: str, choice: LabelChoice) -> Sequence[str]:
    """The keys of the first object, if it has no label."""
    try:
        value = parse_json(first.encode("utf-8", "surrogateescape"))
    except ValueError:
        return ()  # reading the line reports it
    if not isinstance(value, dict) or choice.label_in(value) is not None:
        return ()
    return [key for key in value if key.lower() not in PATH_KEYS]
