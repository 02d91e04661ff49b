"""From evidence to a probability, without a threshold to choose.

Faults can be simulated: give images labels that are surely wrong and measure them. Most of the data
is sound. A logistic regression between the two gives the ratio of likelihoods for this teacher and
this data set. The fault's prevalence is estimated from the data (expectation-maximisation of the
prior, Saerens, Latinne and Decaestecker, Neural Computation 14, 2002). So one setting serves every
teacher and every rate of faults.
"""

from dataclasses import dataclass

import numpy as np

_RIDGE, _LEAST_RIDGE = 7e-5, 0.1
"""Of the weights of standardised features, for each example: the ratio is only nearly linear, so
features that separate thousands of examples must not become surer by their number alone."""
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
        """float64 ``[n]`` of features ``[n, F]``."""
        return ((features - self.mean) / self.scale) @ self.weights + self.intercept


def fit_ratio(
    sound: np.ndarray,
    faulty: np.ndarray,
    sound_groups: np.ndarray | None = None,
    faulty_groups: np.ndarray | None = None,
    ridge: float | None = None,
) -> LikelihoodRatio:
    """Logistic regression between features ``[A, F]`` and ``[B, F]``.

    Both sides have the same weight, so the odds are the ratio of likelihoods; with groups ``[A]``
    and ``[B]``, they have the same weight within each group: other sizes of simulated faults than
    of real data, say, are then no evidence. A ridge keeps the weights finite where the two can be
    separated without error. Where a side is empty, there is no evidence: 0 for everybody.
    """
    if len(sound) == 0 or len(faulty) == 0:
        nothing = np.zeros(sound.shape[1])
        return LikelihoodRatio(nothing, nothing + 1, nothing, 0.0)
    features = np.concatenate([sound, faulty]).astype(np.float64)
    target = np.repeat([0.0, 1.0], [len(sound), len(faulty)])
    weight = np.concatenate(_balanced(len(sound), len(faulty), sound_groups, faulty_groups))
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    design = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    ridge = max(_RIDGE * len(features), _LEAST_RIDGE) if ridge is None else ridge
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
    """Weights of each side, equal in sum within every group; about 1 on average."""
    first = np.zeros(sound, np.int64) if sound_groups is None else sound_groups
    second = np.zeros(faulty, np.int64) if faulty_groups is None else faulty_groups
    groups = int(max(first.max(), second.max())) + 1
    counts = np.bincount(first, minlength=groups), np.bincount(second, minlength=groups)
    both = np.where(np.minimum(*counts) > 0, 0.5 * (counts[0] + counts[1]), 0.0)
    one, other = (both / np.maximum(count, 1) for count in counts)
    return one[first], other[second]


@dataclass(frozen=True)
class CosineRatio:
    """log p(cosine | one person) / p(cosine | hard negatives), by class of size."""

    middle: float
    scale: float
    """Hard negatives: exponential above their median, as the best of many is"""
    mean: np.ndarray
    spread: np.ndarray
    """One person: normal below each class's median; above it as good as there"""

    def __call__(self, cosine: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """float64 ``[n]`` of cosines and classes of size ``[n]``."""
        mean, spread = self.mean[classes], self.spread[classes]
        below = np.minimum(cosine - mean, 0.0) / spread
        same = -0.5 * below**2 - np.log(spread * np.sqrt(2 * np.pi))
        beyond = np.maximum(cosine - self.middle, 0.0)
        different = -beyond / self.scale + np.log(0.5 / self.scale)
        return same - different


def fit_cosine_ratio(
    hard_negatives: np.ndarray, same: np.ndarray, classes: np.ndarray
) -> CosineRatio:
    """From cosines of hard negatives ``[n]``, and of one person ``[m]`` with size classes ``[m]``.

    By quantiles, so that a few of one person among the hard negatives do not matter. A class with
    few examples also takes those of the next smaller one.
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
    ridge: float | None = None,
) -> tuple[LikelihoodRatio, np.ndarray]:
    """The ratio, and the probabilities ``[n]``, of ``features [n, F]`` that are mostly sound.

    The half with the greater ``soundness`` ``[n]`` begins as the measure of what is sound; then it
    is all those that do not turn out to be faulty, until that no longer changes. Groups and
    ``ridge`` as of ``fit_ratio``.
    """
    sound = soundness >= np.median(soundness)
    for _ in range(_REFITS):
        here = None if groups is None else groups[sound]
        ratio = fit_ratio(features[sound], faulty, here, faulty_groups, ridge)
        probability = probabilities(ratio(features))
        before, sound = sound, probability <= 0.5
        if (sound == before).all() or not sound.any():
            break
    return ratio, probability


def probabilities(log_ratios: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Probability of a fault float64 ``[n]``, with the priors that fit the data best.

    ``log_ratios`` ``[n]``, or ``[n, F]`` of faults of F kinds: each kind has its own prior, so that
    one that is rare in these data needs more evidence; it is ``-inf`` where a kind cannot be.
    ``groups`` int ``[n]``: each group (identities of about one size, say) has its own priors, drawn
    a little towards 0.1 in sum where it is small.
    """
    # A row for each kind: sums over two long rows are fast, over many short ones slow.
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
    """float64 ``[F, G]``: of ``values [F, n]`` in each group."""
    return np.stack([np.bincount(groups, row) for row in values])


def size_class(images: np.ndarray) -> np.ndarray:
    """Numbers of images (or weights) ``[n]`` in classes 1, 2-3, 4-7, ... as int64 0 ... 7."""
    return np.clip(np.log2(np.maximum(images, 1.0) + 1e-6).astype(np.int64), 0, _SIZE_CLASSES - 1)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * value))
