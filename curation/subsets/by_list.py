"""Subsets by explicit lists of images or identities."""

from pathlib import Path

import numpy as np

from curation.store import ImageSet
from curation.subsets.by_name import are_named
from curation.subsets.text_lists import (
    By,
    check_known,
    list_parameters,
    numbers_of_images,
    read_list,
)
from curation.views import View, write_subset

KEEP = "keep"
DROP = "drop"


def write_keep(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """The view of the images that the text file ``listed`` names; see ``By``."""
    keep = _is_listed(parent, listed, by)
    return write_subset(path, parent, keep, KEEP, list_parameters(listed, by))


def write_drop(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """The view of the images that the text file ``listed`` does not name."""
    keep = ~_is_listed(parent, listed, by)
    return write_subset(path, parent, keep, DROP, list_parameters(listed, by))


def _is_listed(parent: ImageSet, listed: Path, by: By) -> np.ndarray:
    if by is By.NAME:
        return are_named(parent, listed)
    lines = read_list(listed)
    numbers = numbers_of_images(parent, by)
    check_known(listed, lines, numbers, by, parent)
    return np.isin(numbers, [number for _, found in lines for number in found])
