"""How certain a figure is: the bootstrap over identities.

A person's pairs succeed or fail together, so that people are drawn, not pairs. In a draw of as many
identities as there are, with replacement, an identity comes ``w`` times; a genuine pair then counts
``w`` times and an impostor pair of two identities as often as the product of both. A measure is
taken of each draw; its interval holds the middle 95 %. Two networks are compared on the same draws.
Source: Efron and Tibshirani, 1993; of pairs, the vertex bootstrap of Snijders and Borgatti, 1999.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from distill.evaluation.pair_scores import PairScores
from distill.evaluation.rates import Rate
from distill.evaluation.verification import ACCURACY_THRESHOLDS, FOLDS

DRAWS = 1000
LEVEL = 0.95
_CHUNK, _MOST_AT_ONCE = 1 << 22, 100
"""Weights in memory at a time, and draws."""
_EXACT = 4096
"""Impostor scores from the top of which each counts; further down some stand for others."""
_MOST_GENUINE = 20_000
"""Genuine scores; of more, every n-th in their order is taken."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""From weights [B, I] of identities, float32, to measures of each draw [B, ...]."""


def bootstrap(statistic: Statistic, identities: int, draws: int = DRAWS) -> np.ndarray:
    """The measures of each draw [draws, ...]; the same draws for the same number of identities."""
    return np.concatenate([statistic(weights) for weights in _weights(identities, draws)])


def interval(measured: np.ndarray) -> list[float]:
    """The lowest and the highest of the middle 95 % of ``measured``."""
    outside = (1 - LEVEL) / 2
    return [float(each) for each in np.nanquantile(measured, [outside, 1 - outside])]


def _weights(identities: int, draws: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    # The chunks follow from the number of identities alone, so that the draws do.
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
    """`verification.ten_fold`'s accuracy of pairs [P] of the identities ``left`` and ``right``."""
    signs = np.where(same, 1, -1).astype(np.float32)
    # A pair is accepted from the first threshold on that is above its distance.
    accepted_from = np.searchsorted(ACCURACY_THRESHOLDS, distances, side="right")
    folds = []
    for fold in np.array_split(np.arange(len(same)), FOLDS):
        table = np.zeros((len(fold), len(ACCURACY_THRESHOLDS) + 1), np.float32)
        table[np.arange(len(fold)), accepted_from[fold]] = signs[fold]
        folds.append((fold, table[:, :-1]))

    def statistic(weights: np.ndarray) -> np.ndarray:
        correct, sizes = [], []
        for fold, table in folds:
            weight = np.where(
                same[fold],
                weights[:, left[fold]],
                _of_impostors(weights, left[fold], right[fold]),
            )
            rejected = weight[:, ~same[fold]].sum(axis=1)
            correct.append(np.cumsum(weight @ table, axis=1) + rejected[:, None])
            sizes.append(weight.sum(axis=1))
        scored = np.stack(correct, axis=1)
        best = np.argmax(scored.sum(axis=1, keepdims=True) - scored, axis=2)
        taken = np.take_along_axis(scored, best[:, :, None], axis=2)[:, :, 0]
        pairs = np.stack(sizes, axis=1)
        shares = np.divide(taken, pairs, out=np.zeros_like(taken), where=pairs > 0)
        with np.errstate(invalid="ignore"):  # a draw without any pair
            return shares.sum(axis=1) / (pairs > 0).sum(axis=1)

    return statistic


def tars_and_thresholds(scores: PairScores, exponents: Sequence[int]) -> Statistic:
    """TAR and threshold at each FAR of 10^-exponent, [B, E, 2], by the rule of `rates`."""
    impostors, stands_for = _thinned(len(scores.impostors))
    left, right = scores.left[impostors], scores.right[impostors]
    descending = scores.impostors[impostors]
    genuine = np.arange(0, len(scores.genuine), -(-len(scores.genuine) // _MOST_GENUINE))
    genuine_of, negated = scores.genuine_of[genuine], -scores.genuine[genuine]

    def statistic(weights: np.ndarray) -> np.ndarray:
        known = np.concatenate([weights, np.ones((len(weights), 1), np.float32)], axis=1)
        summed = np.cumsum(_of_impostors(known, left, right) * stands_for, axis=1)
        total = summed[:, -1] if scores.totals is None else scores.totals.weigh(weights)
        passed = np.cumsum(known[:, genuine_of], axis=1, dtype=np.float64)
        passed = np.concatenate([np.zeros((len(weights), 1)), passed], axis=1)
        measured = np.empty((len(weights), len(exponents), 2))
        for place, exponent in enumerate(exponents):
            allowed = (summed * 10.0**exponent <= total[:, None]).sum(axis=1)
            thresholds = descending[np.minimum(allowed, len(descending) - 1)]
            accepted = np.searchsorted(negated, -thresholds, side="left")
            with np.errstate(invalid="ignore"):  # a draw without any genuine pair
                measured[:, place, 0] = passed[np.arange(len(passed)), accepted] / passed[:, -1]
            measured[:, place, 1] = thresholds
        return measured

    return statistic


def area_and_equal_error(scores: PairScores) -> Statistic:
    """Area under the ROC and equal error rate of pairs that are all known, [B, 2]."""
    above = np.searchsorted(-scores.impostors, -scores.genuine, side="left")
    not_below = np.searchsorted(-scores.impostors, -scores.genuine, side="right")

    def statistic(weights: np.ndarray) -> np.ndarray:
        genuine = weights[:, scores.genuine_of]
        passed = np.cumsum(genuine, axis=1, dtype=np.float64)
        impostors = _of_impostors(weights, scores.left, scores.right)
        summed = np.pad(np.cumsum(impostors, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
        with np.errstate(invalid="ignore"):  # a draw without a pair of one kind
            far = summed[:, not_below] / summed[:, -1:]
            # The lowest FAR of each FRR is that at which a genuine pair just passes.
            rates = np.maximum(1 - passed / passed[:, -1:], far)
            better = (far + summed[:, above] / summed[:, -1:]) / 2
            area = 1 - (genuine * better).sum(axis=1) / passed[:, -1]
        return np.stack([area, rates.min(axis=1)], axis=1)

    return statistic


def recentred(drawn: np.ndarray, of_sample: float, value: float) -> list[float]:
    """The interval of a rate that is ``value``, by how a sample's varies about ``of_sample``."""
    low, high = interval(drawn - of_sample)
    return [max(0.0, value + low), min(1.0, value + high)]


def add_rate_intervals(report: dict, planned: list[Rate], scores: PairScores) -> None:
    """Put an ``interval`` of the TAR and a ``threshold_interval`` beside each measured rate."""
    measured = [rate for rate in planned if rate.reason is None]
    if not measured or scores.identities < 2:
        return
    statistic = tars_and_thresholds(scores, [rate.exponent for rate in measured])
    drawn = bootstrap(statistic, scores.identities)
    for place, rate in enumerate(measured):
        report[rate.name]["interval"] = interval(drawn[:, place, 0])
        report[rate.name]["threshold_interval"] = interval(drawn[:, place, 1])


def _thinned(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in a descending list, and how many each stands for: the first ones for themselves,
    later ones for a share of 1 / `_EXACT` of those before."""
    places = [np.arange(min(count, _EXACT))]
    start = _EXACT
    while start < count:
        step = start // _EXACT + 1
        stop = min(start + step * _EXACT, count)
        places.append(np.arange(start, stop, step))
        start = stop
    found = np.concatenate(places)
    return found, np.diff(found, append=count).astype(np.float64)


def _of_impostors(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How often each impostor pair [P] counts in each draw, [B, P]; a wrong label's pair of one
    identity as often as the identity."""
    of_left = weights[:, left]
    return np.where(left == right, of_left, of_left * weights[:, right])
