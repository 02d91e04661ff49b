"""Identities that a published list gives to images, such as the relabel lists of C-MS-Celeb."""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.name_index import NameIndex
from curation.sources.entries import LONGEST_LABEL
from curation.subsets.image_names import ImageNames, cleaned, names_nothing
from curation.subsets.regroup import write_regrouped
from curation.subsets.text_lists import By, list_parameters, numbers_of_images
from curation.text_files import text_lines
from curation.views import View

RELABEL = "relabel"
_BETWEEN = string.whitespace + ",;"
"""Characters between the columns"""
_SEVERAL = -1
_NONE = np.zeros(0, np.int64)


def write_relabel(
    path: Path, parent: ImageSet, listed: Path, by: By, skip_missing: bool = False
) -> View:
    """The view of ``parent`` where the listed images have the identities that the list states.

    A line is ``IMAGE IDENTITY``, by name also ``IDENTITY IMAGE``. An image is a record key, an
    index, or the path of its file. IDENTITY is the name of a folder (by name) or a label of the
    source (by key or index), or any other word, which is a new identity. Unlisted images keep their
    identity. With ``skip_missing``, lines may name images that are not in ``parent``, but not all.

    Raises ``UserError`` for a line that names no image, an image with two identities, a word that
    is the name of several identities, and if nothing would change.
    """
    if by not in (By.NAME, By.KEY, By.INDEX):
        raise UserError(f"images are relabelled by {By.NAME}, {By.KEY} or {By.INDEX}, not by {by}")
    names, known = _names(parent, by), _identities(parent, by)
    find = ImageNames(parent, names).find if by is By.NAME else _by_number(names)
    labels = parent.labels.astype(np.int64)
    are_stated = np.zeros(len(parent), bool)
    missing = 0
    for number, text in text_lines(listed, "a list of images and identities"):
        where = f"{listed}: line {number}"
        cuts = ((find(one), word) for one, word in _cuts(text, by))
        images, word = next((cut for cut in cuts if cut[0].size), (_NONE, ""))
        if not images.size:
            if names_nothing(number, text):
                continue
            missing += 1
            if not skip_missing:
                raise UserError(
                    f"{where}: {parent.path} has no image {text[:60]!r} (--by {by}); expected "
                    f"IMAGE IDENTITY, with IMAGE like {str(names[0])!r}; --skip-missing skips "
                    "such lines"
                )
            continue
        if images.size > 1:
            raise UserError(
                f"{where}: {text[:60]!r} names {images.size} images of {parent.path}; list them by "
                f"{By.INDEX}"
            )
        identity = _identity(word, known, parent, where)
        if are_stated[images].any() and labels[images[0]] != identity:
            raise UserError(f"{where}: an earlier line gives the image to another identity")
        labels[images], are_stated[images] = identity, True
    if not (labels != parent.labels).any():
        raise UserError(f"{listed} changes nothing in {parent.path}")
    note = list_parameters(listed, by) | ({"missing": missing} if skip_missing else {})
    return write_regrouped(path, parent, labels, RELABEL, note)


def _identity(word: str, known: dict[str, int], parent: ImageSet, where: str) -> int:
    """The identity of a word; a new word is entered into ``known``."""
    if len(word) > LONGEST_LABEL:
        raise UserError(
            f"{where}: the identity has {len(word):,} characters; at most {LONGEST_LABEL}"
        )
    identity = known.setdefault(word, parent.identities + len(known))
    if identity == _SEVERAL:
        raise UserError(f"{where}: {word!r} is the name of several identities of {parent.path}")
    return identity


def _cuts(text: str, by: By) -> Iterator[tuple[str, str]]:
    """Image and identity in a line: the identity is the last column, or the first."""
    text = text.strip(_BETWEEN)
    columns = re.split(r"[\s,;]+", text)
    first, last = columns[0], columns[-1]
    if len(columns) > 1:
        yield cleaned(text[: -len(last)].rstrip(_BETWEEN)), last
        if by is By.NAME:
            yield cleaned(text[len(first) :].lstrip(_BETWEEN)), first


def _by_number(numbers: Sequence[str]) -> Callable[[str], np.ndarray]:
    index = NameIndex(numbers)
    return lambda number: index.positions[index.span(number)]


def _names(parent: ImageSet, by: By) -> Sequence[str]:
    """What each image is called in a list."""
    if by is not By.NAME:
        return list(map(str, numbers_of_images(parent, by).tolist()))
    names = parent.store.source_names
    if names is None:
        raise UserError(
            f"{parent.path} was made from records, whose images have no file names; list them "
            f"--by {By.KEY} or --by {By.INDEX}"
        )
    return names.take(parent.rows)


def _identities(parent: ImageSet, by: By) -> dict[str, int]:
    """The identity of each word that is a folder's name, or a label in the source."""
    known: dict[str, int] = {}
    for label, words in _words(parent, by):
        for word in words:
            if known.setdefault(word, label) != label:
                known[word] = _SEVERAL
    return known


def _words(parent: ImageSet, by: By) -> Iterator[tuple[int, set[str]]]:
    """Each identity with the words for it, once for images in a row that have the same."""
    if by is By.NAME:
        of_images: Iterable[str] = (name.rpartition("/")[0] for name in _names(parent, by))
    else:
        of_images = map(str, numbers_of_images(parent, By.LABEL).tolist())
    for (label, word), _ in groupby(zip(parent.labels.tolist(), of_images, strict=True)):
        if label >= 0:
            yield label, {word, word.rpartition("/")[2]} - {""}
