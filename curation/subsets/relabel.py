"""Identities that a published list gives to images, such as the relabel lists of C-MS-Celeb."""

import re
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.subsets.regroup import write_regrouped
from curation.subsets.text_lists import By, list_parameters, numbers_of_images
from curation.text_files import text_lines
from curation.views import View

RELABEL = "relabel"
_BETWEEN = string.whitespace + ",;"
"""Characters between the columns"""
_SEVERAL = -1


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
    images, known = _images(parent, by), _identities(parent, by)
    labels = parent.labels.astype(np.int64)
    stated: dict[int, str] = {}
    missing = 0
    for number, text in text_lines(listed, "a list of images and identities"):
        where = f"{listed}: line {number}"
        found = next(((images[one], word) for one, word in _cuts(text, by) if one in images), None)
        if found is None:
            missing += 1
            if not skip_missing:
                raise UserError(
                    f"{where}: {parent.path} has no image that {text[:60]!r} names --by {by}; "
                    f"expected IMAGE IDENTITY, IMAGE like {next(iter(images))!r}; --skip-missing "
                    "skips such lines"
                )
            continue
        image, word = found
        if stated.setdefault(image, word) != word:
            raise UserError(f"{where}: an earlier line gives the image to {stated[image]!r}")
        identity = known.setdefault(word, parent.identities + len(known))
        if identity == _SEVERAL:
            raise UserError(f"{where}: {word!r} is the name of several identities of {parent.path}")
        labels[image] = identity
    if not (labels != parent.labels).any():
        raise UserError(f"{listed} changes nothing in {parent.path}")
    note = list_parameters(listed, by) | ({"missing": missing} if skip_missing else {})
    return write_regrouped(path, parent, labels, RELABEL, note)


def _cuts(text: str, by: By) -> Iterator[tuple[str, str]]:
    """Image and identity in a line: the identity is the last column, or the first."""
    text = text.strip(_BETWEEN)
    columns = re.split(r"[\s,;]+", text)
    first, last = columns[0], columns[-1]
    if len(columns) > 1:
        yield text[: -len(last)].rstrip(_BETWEEN).removeprefix("./"), last
        if by is By.NAME:
            yield text[len(first) :].lstrip(_BETWEEN).removeprefix("./"), first


def _images(parent: ImageSet, by: By) -> dict[str, int]:
    """The image that each name or number stands for."""
    return {name: image for image, name in enumerate(_names(parent, by))}


def _names(parent: ImageSet, by: By) -> list[str]:
    if by is not By.NAME:
        return list(map(str, numbers_of_images(parent, by).tolist()))
    names = parent.store.source_names
    if names is None:
        raise UserError(
            f"{parent.path} was made of records, whose images have no file names; list them by key "
            "or index"
        )
    return [names[row] for row in parent.rows.tolist()]


def _identities(parent: ImageSet, by: By) -> dict[str, int]:
    """The identity of each word that is a folder's name, or a label in the source."""
    if by is By.NAME:
        folders = (name.rpartition("/")[0] for name in _names(parent, by))
        words = [{folder, folder.rpartition("/")[2]} - {""} for folder in folders]
    else:
        labels = numbers_of_images(parent, By.LABEL).tolist()
        words = [{str(label)} for label in labels]
    known: dict[str, int] = {}
    for label, its in zip(parent.labels.tolist(), words, strict=True):
        for word in its if label >= 0 else ():
            if known.setdefault(word, label) != label:
                known[word] = _SEVERAL
    return known
