"""A list of image files as a source.

A line is an image; empty lines are passed over. Between its words stand tabs:

- ``KEY TAB LABEL TAB PATH``, what MXNet's and insightface's tools call ``.lst``. With more words
  the last is the path and the others, further labels, are not used.
- ``LABEL TAB PATH``: the key is the number of the image, from 0.

The first line decides which it is. KEY and LABEL are whole numbers from 0, LABEL may be written as
``5.000000``. A relative PATH begins at the list's own folder.
"""

from pathlib import Path

from curation.errors import UserError
from curation.files import regular_file_size
from curation.sources.image_files import ImageFile, ImageFiles

SUFFIXES = frozenset({".lst", ".txt", ".tsv"})
_LIMIT = 1 << 31


def read_list(path: Path) -> ImageFiles:
    """The images that the list ``path`` names; ``UserError`` names file and line of a mistake."""
    regular_file_size(path)
    files: list[ImageFile] = []
    keyed: bool | None = None
    lines: dict[int, int] = {}
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            words = line.rstrip("\r\n").split("\t")
            if words == [""]:
                continue
            keyed = len(words) > 2 if keyed is None else keyed
            image = _image(words, keyed, len(files), f"{path}: line {number}")
            if lines.setdefault(image.key, number) != number:
                first = lines[image.key]
                raise UserError(
                    f"{path}: line {number}: the key {image.key} stands in line {first}"
                )
            files.append(image)
    if not files:
        raise UserError(f"{path} names no images")
    return ImageFiles("list", path, path.absolute().parent, files)


def _image(words: list[str], keyed: bool, number: int, where: str) -> ImageFile:
    form = "KEY tab LABEL tab PATH" if keyed else "LABEL tab PATH"
    if len(words) < 2 + keyed or (len(words) > 2 and not keyed):
        raise UserError(f"{where}: it has {len(words)} words; wanted is {form}")
    key = _whole(words[0], "key", where) if keyed else number
    label = _whole(words[keyed], "label", where)
    if not words[-1] or "\0" in words[-1]:
        raise UserError(f"{where}: the path is empty or holds a zero byte; wanted is {form}")
    return ImageFile(key, label, words[-1])


def _whole(word: str, what: str, where: str) -> int:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not (value.is_integer() and 0 <= value < _LIMIT):
        raise UserError(
            f"{where}: the {what} is {word[:40]!r}; allowed are whole numbers from 0 to "
            f"{_LIMIT - 1}"
        )
    return int(value)
