"""Union, intersection and difference of two sets of images.

The sets belong to one store or to several, which a union joins. Images are matched by their row in
the store, identities by ``match_identities``, which rejects two views that regrouped the same
people differently. Unlabelled images belong to no identity; in a union they get the label of the
other set, if it has one.
"""

from pathlib import Path
from typing import NoReturn

import numpy as np

from curation.errors import UserError
from curation.gathered_images import re_rooted
from curation.image_set import ImageSet, RootStore
from curation.joined_stores import joined
from curation.labels import UNLABELLED, renumbered, sort_keys
from curation.view_writing import write_rows
from curation.views import View

UNION = "union"
INTERSECTION = "intersection"
DIFFERENCE = "difference"

Pairs = tuple[np.ndarray, np.ndarray]


def write_union(path: Path, first: ImageSet, second: ImageSet) -> View:
    """Write the view of the images that are in either set.

    Identities are ordered by their first image in the store, and images by row. Identities of
    different stores are different people. Raises ``UserError`` if identities do not match, or the
    image sizes of two stores differ.
    """
    root, rows, labels = united(first, second)
    # If an image is in both, keep the copy with a label.
    by_row = np.lexsort((labels < 0, rows))
    by_row = by_row[np.unique(rows[by_row], return_index=True)[1]]
    labels = _in_order_of_first(labels[by_row])
    order = np.argsort(sort_keys(labels), kind="stable")
    return write_rows(path, first, rows[by_row][order], labels[order], UNION, {}, second, root)


def united(first: ImageSet, second: ImageSet) -> tuple[RootStore, np.ndarray, np.ndarray]:
    """The joined stores of both sets, and the rows and labels int64 ``[N + M]`` of all images in
    them.

    Labels of ``second`` are mapped by ``match_identities``; images that are in both occur twice.
    Raises ``UserError`` if the sets are the same.
    """
    if first.digest == second.digest:
        raise UserError(
            f"{first.path} and {second.path} are the same set, so there is nothing to combine; "
            "give another one"
        )
    root = joined([first.store, second.store])
    first, second = re_rooted(first, root), re_rooted(second, root)
    partners = match_identities(first, second)
    labels_too = np.where(second.labels < 0, UNLABELLED, np.append(partners, 0)[second.labels])
    rows = np.concatenate([first.rows, second.rows])
    return root, rows, np.concatenate([first.labels, labels_too])


def _in_order_of_first(labels: np.ndarray) -> np.ndarray:
    """Number identities in the order of their first images; -1 stays."""
    known = labels >= 0
    _, firsts, inverse = np.unique(labels[known], return_index=True, return_inverse=True)
    ordered = np.full(len(labels), UNLABELLED, np.int64)
    ordered[known] = np.argsort(np.argsort(firsts))[inverse]
    return ordered


def write_intersection(path: Path, first: ImageSet, second: ImageSet) -> View:
    """Write the view of the images that are in both sets, in the order of ``first``.

    Raises ``UserError`` if there is no common store, or ``second`` groups these images differently.
    """
    one, other = _with_common_store(first, second)
    _check_one_to_one(_sharing_images(one, other), first, second)
    return _write_part(path, first, np.isin(one.rows, other.rows), INTERSECTION, second)


def write_difference(path: Path, first: ImageSet, second: ImageSet) -> View:
    """Write the view of the images of ``first`` that are not in ``second``, keeping its identities.

    Raises ``UserError`` if there is no common store.
    """
    one, other = _with_common_store(first, second)
    return _write_part(path, first, ~np.isin(one.rows, other.rows), DIFFERENCE, second)


def _write_part(path: Path, first: ImageSet, keep: np.ndarray, step: str, second: ImageSet) -> View:
    labels = renumbered(first.labels[keep])
    return write_rows(path, first, first.rows[keep], labels, step, {}, second)


def match_identities(first: ImageSet, second: ImageSet) -> np.ndarray:
    """For each identity of ``second``, the same identity of ``first`` or a new number.

    int64 ``[second.identities]``; new numbers continue from ``first.identities``. Two identities
    are the same if they share images, or if each is the only one of its view with images of some
    identity of the store. Raises ``UserError`` if the stores differ, if one identity would match
    two, or if it is ambiguous which parts of a split identity match.
    """
    sharing = _sharing_images(first, second)
    held, held_too = _held_of_store(first), _held_of_store(second)
    alone = np.intersect1d(_occurring_once(held[0]), _occurring_once(held_too[0]))
    same = _unique_pairs(
        np.concatenate([sharing[0], held[1][np.isin(held[0], alone)]]),
        np.concatenate([sharing[1], held_too[1][np.isin(held_too[0], alone)]]),
    )
    _check_one_to_one(same, first, second)
    parted = np.setdiff1d(np.intersect1d(held[0], held_too[0]), alone)
    partner = dict(zip(*(column.tolist() for column in same), strict=True))
    for identity in parted:
        parts, parts_too = _parts(held, identity), _parts(held_too, identity)
        left = {part for part in parts if partner.get(part) not in parts_too}
        left_too = parts_too - {partner.get(part) for part in parts}
        if left and left_too:
            _refuse(left, left_too, first, second)
    return _partners_or_new_numbers(same, first.identities, second.identities)


def _partners_or_new_numbers(same: Pairs, identities: int, others: int) -> np.ndarray:
    partners = np.full(others, -1, np.int64)
    partners[same[1]] = same[0]
    is_new = partners < 0
    partners[is_new] = identities + np.arange(np.count_nonzero(is_new))
    return partners


def _sharing_images(first: ImageSet, second: ImageSet) -> Pairs:
    """The pairs of identities with common images."""
    _, places, places_too = np.intersect1d(first.rows, second.rows, return_indices=True)
    return _unique_pairs(first.labels[places], second.labels[places_too])


def _held_of_store(images: ImageSet) -> Pairs:
    """Sorted pairs of store identity and identity of ``images`` that share images."""
    return _unique_pairs(images.store.labels[images.rows], images.labels)


def _unique_pairs(left: np.ndarray, right: np.ndarray) -> Pairs:
    """Each pair once, sorted, without those where a label is missing."""
    known = (left >= 0) & (right >= 0)
    left, right = left[known], right[known]
    width = int(right.max(initial=0)) + 1
    codes = np.unique(left.astype(np.int64) * width + right)
    return codes // width, codes % width


def _occurring_once(values: np.ndarray) -> np.ndarray:
    found, counts = np.unique(values, return_counts=True)
    return found[counts == 1]


def _parts(held: Pairs, identity: int) -> set[int]:
    """The identities that have images of this identity of the store."""
    first, last = np.searchsorted(held[0], [identity, identity + 1])
    return set(held[1][first:last].tolist())


def _with_common_store(first: ImageSet, second: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Both sets with a common root."""
    stores = {store.digest for store in first.store.stores}
    if not any(store.digest in stores for store in second.store.stores):
        raise UserError(
            f"{first.path} and {second.path} belong to two stores, {first.store.path} and "
            f"{second.store.path}, and have no common image; both must be of the same store "
            f"(`curate view union` and `curate join` combine two)"
        )
    root = joined([first.store, second.store])
    return re_rooted(first, root), re_rooted(second, root)


def _check_one_to_one(pairs: Pairs, first: ImageSet, second: ImageSet) -> None:
    for side in pairs:
        values, counts = np.unique(side, return_counts=True)
        if len(values) < len(side):
            twice = side == values[counts > 1][0]
            _refuse(set(pairs[0][twice].tolist()), set(pairs[1][twice].tolist()), first, second)


def _refuse(some: set[int], others: set[int], first: ImageSet, second: ImageSet) -> NoReturn:
    shown, shown_too = (", ".join(map(str, sorted(numbers)[:3])) for numbers in (some, others))
    raise UserError(
        f"identities do not match: {shown} of {first.path} and {shown_too} of {second.path} hold "
        "images of one person in the store, but only one of the two merged or split them; make "
        "both from the same regrouped view"
    )
