"""Merging and splitting identities."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet, Parameter
from curation.labels import UNLABELLED, renumbered, sort_keys
from curation.subsets.text_lists import (
    By,
    check_known,
    flat,
    list_parameters,
    numbers_of_images,
    read_list,
)
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
        raise ValueError("a label stands in two groups")
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
                raise UserError(
                    f"identity {identity} would be merged into two identities; list it once"
                )
        if len(set(group)) < 2:
            raise UserError(
                f"the group {list(group)} has nothing to merge; give at least two identities"
            )
        seen.update(group)


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
    lines = list(read_list(listed))
    numbers = numbers_of_images(parent, by)
    check_known(listed, flat(lines), numbers, by, parent)
    named = np.isin(numbers, [number for _, group in lines for number in group])
    identities = _identity_of_each(parent, numbers[named], parent.labels[named], by)
    groups = [[identities[number] for number in group] for _, group in lines]
    return write_merge(path, parent, groups, list_parameters(listed, by))


def _identity_of_each(
    parent: ImageSet, numbers: np.ndarray, labels: np.ndarray, by: By
) -> dict[int, int]:
    """The identity that each number names; ``UserError`` if a number names several."""
    found: dict[int, int] = {}
    for number, label in zip(numbers.tolist(), labels.tolist(), strict=True):
        if found.setdefault(number, label) != label:
            raise UserError(
                f"the {by} {number} is in several identities of {parent.path}, because it was "
                f"split; list by {By.IDENTITY}"
            )
    return found


def write_split_list(path: Path, parent: ImageSet, listed: Path, by: By) -> View:
    """``write_split`` from a text file of lines ``IMAGE PART``, by record key or index.

    Images that are not listed form part 0.
    """
    lines = list(read_list(listed))
    chosen: dict[int, int] = {}
    for line, entry in lines:
        if len(entry) != 2 or entry[0] in chosen:
            raise UserError(f"{listed}: line {line}: expected an image, listed once, and a part")
        chosen[entry[0]] = entry[1]
    numbers = numbers_of_images(parent, by)
    check_known(listed, flat((line, entry[:1]) for line, entry in lines), numbers, by, parent)
    parts = np.zeros(len(parent), np.int64)
    listed_images = np.flatnonzero(np.isin(numbers, list(chosen)))
    parts[listed_images] = [chosen[number] for number in numbers[listed_images].tolist()]
    without = listed_images[parent.labels[listed_images] < 0]
    if len(without):
        raise UserError(
            f"{listed}: image {without[0]} (key {parent.source_keys[without[0]]}) of {parent.path} "
            "has no label, so there is no identity to split"
        )
    return write_split(path, parent, parts, list_parameters(listed, by))
