"""Turns evidence into a probability, without a threshold to choose.

Errors can be simulated by assigning images to identities that are certainly wrong, and most of the
data is sound. A logistic regression between the two gives the likelihood ratio for this teacher and
this data set. The prevalence of errors is estimated from the data (expectation-maximisation of the
prior, Saerens, Latinne and Decaestecker, Neural Computation 14, 2002). So the same settings serve
every teacher and every error rate.
"""

from dataclasses import dataclass

import numpy as np

_RIDGE, _LEAST_RIDGE = 7e-5, 0.1
"""Per example, for the weights of standardised features.

The log-ratio is only nearly linear, so the number of separable examples alone must not increase the
confidence.
"""
_NEWTON_STEPS, _PRIOR_STEPS = 25, 50
_REFITS = 5
_LEAST_EXAMPLES = 30
_SIZE_CLASSES = 8
_STARTING_PRIOR = 0.1
_LEAST_PRIOR, _GREATEST_PRIOR = 1e-4, 0.9


@dataclass(frozen=True)
class LikelihoodRatio:
    """log p(features | faulty) / p(features | sound), linear in the features."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float64 ``[n]`` for features ``[n, F]``."""
        return ((features - self.mean) / self.scale) @ self.weights + self.intercept


def fit_ratio(
    sound: np.ndarray,
    faulty: np.ndarray,
    sound_groups: np.ndarray | None = None,
    faulty_groups: np.ndarray | None = None,
) -> LikelihoodRatio:
    """Logistic regression between features ``[A, F]`` and ``[B, F]``.

    Both sides have equal weight, so the odds are the likelihood ratio. With groups ``[A]`` and
    ``[B]`` they have equal weight within each group, so that, say, different sizes of simulated
    errors and real data are not evidence. A ridge keeps the weights finite for separable data. If a
    side is empty there is no evidence, and the ratio is 0 for all.
    """
    if len(sound) == 0 or len(faulty) == 0:
        nothing = np.zeros(sound.shape[1])
        return LikelihoodRatio(nothing, nothing + 1, nothing, 0.0)
    features = np.concatenate([sound, faulty]).astype(np.float64)
    target = np.repeat([0.0, 1.0], [len(sound), len(faulty)])
    weight = np.concatenate(_balanced(len(sound), len(faulty), sound_groups, faulty_groups))
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    design = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    ridge = max(_RIDGE * len(features), _LEAST_RIDGE)
    penalty = np.diag([ridge] * features.shape[1] + [1e-9])
    solution = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        odds = _sigmoid(design @ solution)
        gradient = design.T @ (weight * (odds - target)) + penalty @ solution
        curvature = (design.T * (weight * odds * (1 - odds))) @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        solution -= step * min(1.0, 4.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-6:
            break
    return LikelihoodRatio(mean, scale, solution[:-1], float(solution[-1]))


def _balanced(
    sound: int, faulty: int, sound_groups: np.ndarray | None, faulty_groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of both sides with equal sums in every group, about 1 on average."""
    first = np.zeros(sound, np.int64) if sound_groups is None else sound_groups
    second = np.zeros(faulty, np.int64) if faulty_groups is None else faulty_groups
    groups = int(max(first.max(), second.max())) + 1
    counts = np.bincount(first, minlength=groups), np.bincount(second, minlength=groups)
    both = np.where(np.minimum(*counts) > 0, 0.5 * (counts[0] + counts[1]), 0.0)
    one, other = (both / np.maximum(count, 1) for count in counts)
    return one[first], other[second]


@dataclass(frozen=True)
class CosineRatio:
    """log p(cosine | same person) / p(cosine | hard negatives), per size class."""

    middle: float
    scale: float
    """Hard negatives: exponential above their median, like the maximum of many values"""
    mean: np.ndarray
    spread: np.ndarray
    """Same person: normal below each class's median, constant above it"""

    def __call__(self, cosine: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """float64 ``[n]`` for cosines and size classes ``[n]``."""
        mean, spread = self.mean[classes], self.spread[classes]
        below = np.minimum(cosine - mean, 0.0) / spread
        same = -0.5 * below**2 - np.log(spread * np.sqrt(2 * np.pi))
        beyond = np.maximum(cosine - self.middle, 0.0)
        different = -beyond / self.scale + np.log(0.5 / self.scale)
        return same - different


def fit_cosine_ratio(
    hard_negatives: np.ndarray, same: np.ndarray, classes: np.ndarray
) -> CosineRatio:
    """Fit to the cosines of hard negatives ``[n]`` and of same-person pairs ``[m]`` with size
    classes ``[m]``.

    Uses quantiles, so that a few same-person pairs among the hard negatives do not matter. A class
    with few examples borrows those of the next smaller class.
    """
    middle, upper = np.quantile(hard_negatives, [0.5, 0.75])
    scale = max(float(upper - middle) / np.log(2), 1e-3)
    means, spreads = np.empty(_SIZE_CLASSES), np.empty(_SIZE_CLASSES)
    before = same
    for one in range(_SIZE_CLASSES):
        here = same[classes == one]
        before = here if len(here) >= _LEAST_EXAMPLES else np.concatenate([before, here])
        low, means[one] = np.quantile(before, [0.1587, 0.5])
        spreads[one] = max(float(means[one] - low), 0.01)
    return CosineRatio(float(middle), scale, means, spreads)


def fit_most(
    features: np.ndarray,
    faulty: np.ndarray,
    soundness: np.ndarray,
    groups: np.ndarray | None = None,
    faulty_groups: np.ndarray | None = None,
) -> tuple[LikelihoodRatio, np.ndarray]:
    """The likelihood ratio and probabilities ``[n]`` for ``features [n, F]`` that are mostly sound.

    The half with the greater ``soundness`` ``[n]`` is the first reference. Then the reference is
    everything not found faulty, until it no longer changes. Groups as in
    ``fit_ratio``.
    """
    sound = soundness >= np.median(soundness)
    for _ in range(_REFITS):
        here = None if groups is None else groups[sound]
        ratio = fit_ratio(features[sound], faulty, here, faulty_groups)
        probability = probabilities(ratio(features))
        before, sound = sound, probability <= 0.5
        if (sound == before).all() or not sound.any():
            break
    return ratio, probability


def probabilities(log_ratios: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """The probability of an error, float64 ``[n]``, with the priors that fit the data best.

    ``log_ratios`` is ``[n]``, or ``[n, F]`` for F kinds of errors. Each kind has its own prior, so
    a kind that is rare in the data needs more evidence; ``-inf`` excludes a kind. Each group in
    ``groups`` int ``[n]``, say identities of similar size, has its own priors. Those of small
    groups are drawn slightly towards a sum of 0.1.
    """
    # One row per kind: sums over two long rows are fast, over many short ones slow.
    ratios = np.ascontiguousarray(np.atleast_2d(log_ratios.T))
    groups = np.zeros(ratios.shape[1], np.int64) if groups is None else groups
    starting = _STARTING_PRIOR / len(ratios)
    count = _sums(np.isfinite(ratios), groups)
    prior = np.full(count.shape, starting)
    probability = np.zeros_like(ratios)
    for _ in range(_PRIOR_STEPS):
        odds = ratios + np.log(prior / (1 - prior.sum(axis=0)))[:, groups]
        most = np.maximum(odds.max(axis=0), 0.0)
        weight = np.exp(odds - most)
        probability = weight / (weight.sum(axis=0) + np.exp(-most))
        expected = (_sums(probability, groups) + 10 * starting) / (count + 10)
        prior = np.where(count > 0, np.maximum(expected, _LEAST_PRIOR), _LEAST_PRIOR)
        prior *= np.minimum(1.0, _GREATEST_PRIOR / prior.sum(axis=0))
    return probability.sum(axis=0)


def _sums(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """float64 ``[F, G]``: the sum of ``values [F, n]`` in each group."""
    return np.stack([np.bincount(groups, row) for row in values])


def size_class(images: np.ndarray) -> np.ndarray:
    """The size classes 1, 2-3, 4-7, ... of image counts (or weights) ``[n]`` as int64 0 to 7."""
    return np.clip(np.log2(np.maximum(images, 1.0) + 1e-6).astype(np.int64), 0, _SIZE_CLASSES - 1)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * value))
