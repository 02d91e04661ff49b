"""Pairs drawn at random from a store or view: ten folds without common identities."""

from itertools import combinations

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pair_sets.folds import FOLDS

_TRIES = 50


def draw_pairs(images: ImageSet, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` pairs: indices int64 ``[count, 2]`` and whether they show one person, bool.

    Half of them are genuine. The pairs are in ten consecutive folds, each with its genuine pairs
    first. No identity is in two folds and no pair occurs twice. Identities take turns, so that
    large ones do not dominate. Raises ``UserError`` if there are not enough images.
    """
    if count < 2 * FOLDS or count % (2 * FOLDS):
        raise UserError(
            f"{count:,} pairs cannot be split into ten folds with as many genuine as impostor "
            "pairs; allowed: multiples of 20"
        )
    each = count // (2 * FOLDS)
    folds = _share_out(images.offsets, seed)
    possible = 2 * FOLDS * min(_possible(images.offsets, fold) for fold in folds)
    if possible < count:
        raise UserError(f"{images.path} has {_shortage(images, possible, count)}")
    pairs = []
    for number, fold in enumerate(folds):
        rng = np.random.default_rng((seed, number))
        pairs += _genuine(images.offsets, fold, each, rng)
        pairs += _impostors(images.offsets, fold, each, rng)
    same = np.tile(np.repeat([True, False], each), FOLDS)
    return np.array(pairs, np.int64), same


def _shortage(images: ImageSet, possible: int, wanted: int) -> str:
    """What the images give, and what helps."""
    if possible:
        return (
            f"{images.identities:,} identities and {len(images):,} images: they give {possible:,} "
            f"pairs in ten folds without people in common, not {wanted:,}; ask for at most that "
            f"many (--pairs {possible}), or give more images"
        )
    several = int(np.count_nonzero(np.diff(images.offsets) > 1))
    return (
        f"{images.identities:,} identities, {several:,} of them with two or more images: too few "
        f"for pairs in ten folds without people in common, which need {2 * FOLDS} identities, "
        f"{FOLDS} of them with two or more images; give more images, or a list of pairs that may "
        "share people (`curate pairs LIST:SET FILE.bin`)"
    )


def _share_out(offsets: np.ndarray, seed: int) -> list[np.ndarray]:
    """The identities of each fold; those with two or more images are distributed evenly."""
    counts = np.diff(offsets)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(counts[order] < 2, kind="stable")]
    return [order[fold::FOLDS] for fold in range(FOLDS)]


def _possible(offsets: np.ndarray, fold: np.ndarray) -> int:
    """The number of pairs of each kind that a fold can give; at most half of all impostor pairs."""
    counts = np.diff(offsets)[fold].astype(object)  # arbitrary precision
    genuine = sum(n * (n - 1) // 2 for n in counts)
    different = (sum(counts) ** 2 - sum(n * n for n in counts)) // 2
    return min(genuine, (different + 1) // 2)


def _genuine(
    offsets: np.ndarray, fold: np.ndarray, wanted: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Each identity in turn gives one pair, while it has any left."""
    pairs: list[tuple[int, int]] = []
    given: dict[int, set[tuple[int, int]]] = {}
    turn = [int(one) for one in fold if offsets[one + 1] - offsets[one] > 1]
    while len(pairs) < wanted:
        left = []
        for identity in rng.permutation(turn)[: wanted - len(pairs)].tolist():
            first, last = int(offsets[identity]), int(offsets[identity + 1])
            taken = given.setdefault(identity, set())
            pairs.append(_new_pair(first, last, taken, rng))
            if len(taken) < (last - first) * (last - first - 1) // 2:
                left.append(identity)
        turn = left
    return pairs


def _new_pair(
    first: int, last: int, taken: set[tuple[int, int]], rng: np.random.Generator
) -> tuple[int, int]:
    """Draw an unused pair of the images ``first`` to ``last - 1``, and mark it as used."""
    for _ in range(_TRIES):
        one, other = sorted(rng.integers(first, last, 2).tolist())
        if one != other and (one, other) not in taken:
            break
    else:
        left = [pair for pair in combinations(range(first, last), 2) if pair not in taken]
        one, other = left[rng.integers(len(left))]
    taken.add((one, other))
    return one, other


def _impostors(
    offsets: np.ndarray, fold: np.ndarray, wanted: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """An image of each of two random identities."""
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < wanted:
        chosen = rng.integers(0, len(fold), 2)
        if chosen[0] == chosen[1]:
            continue
        one, other = (
            int(rng.integers(offsets[identity], offsets[identity + 1]))
            for identity in fold[chosen].tolist()
        )
        pairs[min(one, other), max(one, other)] = None
    return list(pairs)
