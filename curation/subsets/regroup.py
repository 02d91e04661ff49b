"""Merging and splitting identities."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet, Parameter
from curation.labels import UNLABELLED, renumbered, sort_keys
from curation.subsets.text_lists import By, ListedImages, list_parameters, read_list
from curation.view_writing import write_view
from curation.views import View

MERGE = "merge"
SPLIT = "split"


def merge_identities(labels: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """``labels`` ``[N]`` with each group merged into its smallest label; -1 stays.

    Raises ``ValueError`` if a label is in several groups.
    """
    members = [label for group in groups for label in set(group)]
    if len(members) > len(set(members)):
        raise ValueError("a label is in two groups")
    becomes = np.arange(max([*members, int(labels.max())]) + 1)
    for group in groups:
        becomes[list(group)] = min(group)
    return np.where(labels < 0, UNLABELLED, becomes[labels])


def split_identities(labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """New labels ``[N]`` from 0: images with equal label and part form one identity.

    ``parts`` ``[N]`` are any whole numbers. The parts of an identity get consecutive labels.
    Unlabelled images stay -1.
    """
    kinds, part = np.unique(parts, return_inverse=True)
    new = labels.astype(np.int64) * len(kinds) + part
    return renumbered(np.where(labels < 0, UNLABELLED, new))


def write_merge(
    path: Path, parent: ImageSet, groups: Sequence[Sequence[int]], note: Mapping[str, Parameter]
) -> View:
    """Write the view of ``parent`` in which each group of identities is merged.

    A merged identity takes the place of its first, with the images in the order of the parent.
    ``note`` goes into the history. Raises ``UserError`` if a group has fewer than two identities,
    or if an identity is unknown or in two groups.
    """
    _check_groups(parent, groups)
    return write_regrouped(path, parent, merge_identities(parent.labels, groups), MERGE, note)


def _check_groups(parent: ImageSet, groups: Sequence[Sequence[int]]) -> None:
    seen: set[int] = set()
    for group in groups:
        for identity in set(group):
            if not 0 <= identity < parent.identities:
                raise UserError(
                    f"{parent.path} has no identity {identity}; allowed: 0 to "
                    f"{parent.identities - 1}"
                )
            if identity in seen:
                raise UserError(_twice(identity))
        if len(set(group)) < 2:
            raise UserError(
                f"the group {list(group)} has nothing to merge; give at least two identities"
            )
        seen.update(group)


def _twice(identity: int) -> str:
    return f"identity {identity} would be merged into two identities; list it once"


def write_split(
    path: Path, parent: ImageSet, parts: np.ndarray, note: Mapping[str, Parameter]
) -> View:
    """Write the view of ``parent`` in which identities are split by ``parts`` (whole numbers
    ``[N]``).

    Images of one identity with equal parts stay together; the smallest part comes first. Raises
    ``UserError`` if nothing is split.
    """
    new = split_identities(parent.labels, parts)
    if new.max() + 1 == parent.identities:
        raise UserError(
            f"nothing in {parent.path} would be split; list some, but not all, images of an "
            "identity"
        )
    return write_regrouped(path, parent, new, SPLIT, note)


def write_regrouped(
    path: Path, parent: ImageSet, labels: np.ndarray, step: str, note: Mapping[str, Parameter]
) -> View:
    """Write the view of all images of ``parent`` with new ``labels`` ``[N]``, sorted by them."""
    rows = np.argsort(sort_keys(labels), kind="stable")
    return write_view(path, parent, rows, renumbered(labels[rows]), step, note)


def write_merge_list(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """``write_merge`` from a text file with one group per line, by identity or by source label."""
    found, groups = ListedImages(listed, parent, by), []
    are_grouped = np.zeros(parent.identities + 1, bool)  # the last one stands for no identity
    for line, numbers in read_list(listed):
        group = [_identity_of(found, parent, line, number, by) for number in set(numbers)]
        if are_grouped[group].any():
            identity = next(one for one in group if are_grouped[one])
            raise UserError(f"{listed}: line {line}: {_twice(identity)}")
        are_grouped[group] = True
        groups.append(group)
    return write_merge(path, parent, groups, list_parameters(listed, by))


def _identity_of(found: ListedImages, parent: ImageSet, line: int, number: int, by: By) -> int:
    """The identity that a number names; ``UserError`` if it names none or several."""
    labels = parent.labels[found.find(number)]
    if not labels.size:
        raise found.unknown(line, number)
    if (labels != labels[0]).any():
        raise UserError(
            f"the {by} {number} is in several identities of {parent.path}, because it was split; "
            f"list by {By.IDENTITY}"
        )
    return int(labels[0])


def write_split_list(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """``write_split`` from a text file of lines ``IMAGE PART``, by record key or index.

    Images that are not listed form part 0.
    """
    found, parts = ListedImages(listed, parent, by), np.zeros(len(parent), np.int64)
    are_listed = np.zeros(len(parent), bool)
    for line, entry in read_list(listed):
        images = found.find(entry[0])
        if len(entry) != 2 or are_listed[images].any():
            raise UserError(f"{listed}: line {line}: expected an image, listed once, and a part")
        if not images.size:
            raise found.unknown(line, entry[0])
        parts[images], are_listed[images] = entry[1], True
    without = np.flatnonzero(are_listed & (parent.labels < 0))
    if len(without):
        raise UserError(
            f"{listed}: image {without[0]} (key {parent.source_keys[without[0]]}) of {parent.path} "
            "has no label, so there is no identity to split"
        )
    return write_split(path, parent, parts, list_parameters(listed, by))
