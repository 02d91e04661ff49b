"""Confidence intervals from a bootstrap over identities.

The pairs of a person succeed or fail together, so people are resampled instead of pairs. A draw
takes as many identities as there are, with replacement. An identity drawn ``w`` times gives its
genuine pairs weight ``w``; an impostor pair gets the product of the weights of its two identities.
Each draw yields a measure; the interval is the middle 95 %. Two networks are compared on the same
draws. Source: Efron and Tibshirani, 1993; for pairs, the vertex bootstrap of Snijders and Borgatti,
1999.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from distill.evaluation.pair_scores import PairScores
from distill.evaluation.rates import Rate
from distill.evaluation.verification import ACCURACY_THRESHOLDS, FOLDS

DRAWS = 1000
LEVEL = 0.95
_CHUNK, _MOST_AT_ONCE = 1 << 22, 100
"""The most weights, and the most draws, in memory at a time."""
_MOST_REMEMBERED = 1 << 23
"""The most weights that are kept for the next statistic of equally many identities"""
_EXACT = 4096
"""The highest impostor scores are used individually up to this number; below, they are thinned."""
_MOST_GENUINE = 20_000
"""The most genuine scores to use; if there are more, every n-th in sorted order is used."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Maps weights [B, I] of identities, float32, to the measures [B, ...] of each draw."""


def bootstrap(statistic: Statistic, identities: int, draws: int = DRAWS) -> np.ndarray:
    """The measures [draws, ...] of each draw; equal numbers of identities give equal draws."""
    drawn: Iterable[np.ndarray] = _weights(identities, draws)
    if identities * draws <= _MOST_REMEMBERED:
        drawn = _remembered_weights(identities, draws)
    return np.concatenate([statistic(weights) for weights in drawn])


def interval(measured: np.ndarray) -> list[float]:
    """The bounds of the middle 95 % of ``measured``; NaN is ignored."""
    outside = (1 - LEVEL) / 2
    return [float(each) for each in np.nanquantile(measured, [outside, 1 - outside])]


@lru_cache(maxsize=1)
def _remembered_weights(identities: int, draws: int) -> list[np.ndarray]:
    """All `_weights`, which the measures of one set, or of one group, have in common."""
    drawn = list(_weights(identities, draws))
    for weights in drawn:
        weights.flags.writeable = False
    return drawn


def _weights(identities: int, draws: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    # Chunks depend on the number of identities only, so that the draws do too.
    size = max(1, min(_MOST_AT_ONCE, _CHUNK // max(identities, 1)))
    for start in range(0, draws, size):
        count = min(size, draws - start)
        drawn = generator.integers(identities, size=(count, identities))
        drawn += np.arange(count)[:, None] * identities
        weights = np.bincount(drawn.ravel(), minlength=count * identities)
        yield weights.reshape(count, identities).astype(np.float32)


def ten_fold_accuracy(
    distances: np.ndarray, same: np.ndarray, left: np.ndarray, right: np.ndarray
) -> Statistic:
    """The accuracy of `verification.ten_fold` for pairs [P] of identities ``left``, ``right``."""
    # The first threshold above the distance is the first that accepts the pair.
    accepted_from = np.searchsorted(ACCURACY_THRESHOLDS, distances, side="right")
    # Of thresholds that accept the same pairs, the protocol takes the first; few pairs need few.
    within = accepted_from[accepted_from < len(ACCURACY_THRESHOLDS)]
    thresholds = np.unique(np.append(within, 0))
    folds = []
    for fold in np.array_split(np.arange(len(same)), FOLDS):
        ordered = fold[np.argsort(accepted_from[fold], kind="stable")]
        accepted = np.searchsorted(accepted_from[ordered], thresholds, side="right")
        is_same = same[ordered]
        folds.append((left[ordered], right[ordered], is_same, np.flatnonzero(~is_same), accepted))

    def statistic(weights: np.ndarray) -> np.ndarray:
        scored = np.empty((len(weights), FOLDS, len(thresholds)))
        sizes = []
        for number, (one, other, is_same, impostors, accepted) in enumerate(folds):
            weight = np.where(is_same, weights[:, one], _of_impostors(weights, one, other))
            rejected = weight[:, impostors].sum(axis=1)
            gained = _cumulated(np.where(is_same, weight, -weight))
            np.add(gained[:, accepted], rejected[:, None], out=scored[:, number])
            sizes.append(weight.sum(axis=1))
        best = np.argmax(scored.sum(axis=1, keepdims=True) - scored, axis=2)
        taken = np.take_along_axis(scored, best[:, :, None], axis=2)[:, :, 0]
        counts = np.stack(sizes, axis=1)
        shares = np.divide(taken, counts, out=np.zeros_like(taken), where=counts > 0)
        with np.errstate(invalid="ignore"):  # a draw without any pair
            return shares.sum(axis=1) / (counts > 0).sum(axis=1)

    return by_blocks(statistic, len(same))


def tars_and_thresholds(scores: PairScores, exponents: Sequence[int]) -> Statistic:
    """TAR and threshold [B, E, 2] at each FAR of 10^-exponent, by the rule of `rates`.

    Both are NaN in a draw without any impostor pair, which has no FAR.
    """
    impostors, stands_for = _thinned(len(scores.impostors))
    left, right = scores.left[impostors], scores.right[impostors]
    descending = scores.impostors[impostors]
    genuine = np.arange(0, len(scores.genuine), max(1, -(-len(scores.genuine) // _MOST_GENUINE)))
    genuine_of, negated = scores.genuine_of[genuine], -scores.genuine[genuine]
    powers = 10.0 ** np.array(exponents)

    def statistic(weights: np.ndarray) -> np.ndarray:
        known = np.concatenate([weights, np.ones((len(weights), 1), np.float32)], axis=1)
        summed = np.cumsum(_of_impostors(known, left, right) * stands_for, axis=1)
        total = summed[:, -1] if scores.totals is None else scores.totals.weigh(weights)
        passed = _cumulated(known[:, genuine_of])
        allowed = np.stack(
            [
                np.searchsorted(known_sums, each / powers, side="right")
                for known_sums, each in zip(summed, total, strict=True)
            ]
        )
        thresholds = descending[np.minimum(allowed, len(descending) - 1)]
        accepted = np.searchsorted(negated, -thresholds, side="left")
        with np.errstate(invalid="ignore"):  # a draw without any genuine pair
            tars = np.take_along_axis(passed, accepted, axis=1) / passed[:, -1:]
        found = np.stack([tars, thresholds], axis=2)
        found[total == 0] = np.nan
        return found

    return statistic


def area_and_equal_error(scores: PairScores) -> Statistic:
    """Area under the ROC and equal error rate [B, 2]; needs the scores of all pairs."""
    above = np.searchsorted(-scores.impostors, -scores.genuine, side="left")
    not_below = np.searchsorted(-scores.impostors, -scores.genuine, side="right")
    # Sums are needed at these places only, of which a group has few.
    cuts = np.unique(np.concatenate([[0], above, not_below]))
    cuts = cuts[cuts < len(scores.impostors)]
    above, not_below = np.searchsorted(cuts, above), np.searchsorted(cuts, not_below)

    def statistic(weights: np.ndarray) -> np.ndarray:
        genuine = weights[:, scores.genuine_of]
        passed = np.cumsum(genuine, axis=1, dtype=np.float64)
        impostors = _of_impostors(weights, scores.left, scores.right)
        summed = _cumulated(np.add.reduceat(impostors, cuts, axis=1))
        with np.errstate(invalid="ignore"):  # a draw without a pair of one kind
            far = summed[:, not_below] / summed[:, -1:]
            # For a given FRR, FAR is lowest where the last accepted genuine pair just passes.
            rates = np.maximum(1 - passed / passed[:, -1:], far)
            better = (far + summed[:, above] / summed[:, -1:]) / 2
            area = 1 - (genuine * better).sum(axis=1) / passed[:, -1]
        return np.stack([area, rates.min(axis=1)], axis=1)

    return by_blocks(statistic, len(scores.genuine) + len(scores.impostors))


def recentred(drawn: np.ndarray, of_sample: float, value: float) -> list[float]:
    """The interval of a rate ``value``, from the draws of a sample whose rate is ``of_sample``."""
    low, high = interval(drawn - of_sample)
    return [max(0.0, value + low), min(1.0, value + high)]


def add_rate_intervals(report: dict, planned: list[Rate], scores: PairScores) -> None:
    """Add an ``interval`` of the TAR and a ``threshold_interval`` to each measured rate."""
    measured = [rate for rate in planned if rate.reason is None]
    if not measured or scores.identities < 2:
        return
    statistic = tars_and_thresholds(scores, [rate.exponent for rate in measured])
    drawn = bootstrap(statistic, scores.identities)
    for place, rate in enumerate(measured):
        report[rate.name]["interval"] = interval(drawn[:, place, 0])
        report[rate.name]["threshold_interval"] = interval(drawn[:, place, 1])


def _thinned(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sampled indices of a descending list, and the number of scores that each represents.

    The first `_EXACT` represent themselves, later ones about 1 / `_EXACT` of those above them.
    """
    places = [np.arange(min(count, _EXACT))]
    start = _EXACT
    while start < count:
        step = start // _EXACT + 1
        stop = min(start + step * _EXACT, count)
        places.append(np.arange(start, stop, step))
        start = stop
    found = np.concatenate(places)
    return found, np.diff(found, append=count).astype(np.float64)


def by_blocks(statistic: Statistic, pairs: int) -> Statistic:
    """``statistic``, which weights ``pairs``, for as many draws at a time as memory allows."""
    size = max(1, _CHUNK // max(pairs, 1))

    def of_all(weights: np.ndarray) -> np.ndarray:
        starts = range(0, len(weights), size)
        return np.concatenate([statistic(weights[start : start + size]) for start in starts])

    return of_all


def _cumulated(values: np.ndarray) -> np.ndarray:
    """The sums [B, P + 1] of the first 0 to P ``values`` [B, P] of each draw."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _of_impostors(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The weight [B, P] of each impostor pair in each draw.

    A pair within one identity, which comes from a wrong label, has the weight of that identity.
    """
    of_pairs, of_right = np.take(weights, left, axis=1), np.take(weights, right, axis=1)
    within = left == right
    if within.any():
        of_right[:, within] = 1
    of_pairs *= of_right
    return of_pairs
