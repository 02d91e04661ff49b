"""Lists of images with named columns: tables with a heading, and lines of JSON objects.

Such are the ``metadata.csv`` and ``metadata.jsonl`` of Hugging Face's image folders and the tables
on Kaggle. One column names the file, another the identity; all others are ignored.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.json_text import parse_json
from curation.labels import UNLABELLED
from curation.sources.entries import LabelNumbers
from curation.sources.image_files import ImageFile
from curation.sources.label_choice import LABEL_KEYS, USUAL, usual_key
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


def columns_of(path: Path, first: str) -> NamedColumns | None:
    """The columns of the list ``path`` by its first line.

    None if they have no names, or if they are those of MXNet's lists, KEY LABEL PATH.
    """
    if path.suffix == JSON_LINES:
        return NamedColumns(_of_object, has_heading=False)
    for separator in "\t,;":
        words = split_line(first, separator)
        names = {word.lower(): place for place, word in enumerate(words)}
        where = next((names[key] for key in PATH_KEYS if key in names), None)
        label = usual_key(words)
        if where is not None and label is not None and "key" not in names:
            return NamedColumns(_of_row(separator, len(words), where, words.index(label)), True)
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


def _of_row(
    separator: str, count: int, where: int, label: int
) -> Callable[[str], tuple[object, object]]:
    def cut(line: str) -> tuple[object, object]:
        words = split_line(line, separator)
        if len(words) < count or any(words[count:]):
            raise ValueError(f"it has {len(words)} columns, the heading has {count}")
        return words[where], words[label]

    return cut


def _of_object(line: str) -> tuple[object, object]:
    value = parse_json(line.encode("utf-8", "surrogateescape"))
    if not isinstance(value, dict):
        raise ValueError(f"{line[:40]!r} is not a JSON object with {PATH_KEYS[1]}, {LABEL_KEYS[0]}")
    names = {key.lower(): key for key in value}
    found = next((names[key] for key in PATH_KEYS if key in names), None)
    return None if found is None else value[found], USUAL.label_in(value)
