"""Whether one network is significantly better than another, from the same bootstrap draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from distill.evaluation.all_pairs import all_pair_scores, why_not_compared
from distill.evaluation.bootstrap import (
    Statistic,
    area_and_equal_error,
    bootstrap,
    interval,
    tars_and_thresholds,
    ten_fold_accuracy,
)
from distill.evaluation.measurable import why_no_accuracy
from distill.evaluation.pair_scores import PairScores, linked_identities, listed_scores
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.rates import plan_rates
from distill.evaluation.set_features import EvaluationSet
from distill.evaluation.thresholds import cosine_of
from distill.evaluation.verification import squared_distances

CURVE_MEASURES = ("area under the ROC", "equal error rate")
"""The measures of `area_and_equal_error`, by their names in a report"""


@dataclass(frozen=True)
class PairedDifference:
    """A measure of two networks on one set, and the 95 % interval of second minus first."""

    measure: str
    first: float
    second: float
    interval: list[float]

    @property
    def is_more_than_noise(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Measures:
    """The measures of one network on one set: ``names`` [M] and a statistic with their values."""

    names: list[str]
    statistic: Statistic
    identities: int


def differences(
    first: np.ndarray, second: np.ndarray, each: EvaluationSet
) -> list[PairedDifference]:
    """Compare accuracy, AUC, EER and TAR at each measured FAR, from unit features [N, D].

    Sets of images have TAR only, because only their highest impostor scores are kept by person.
    """
    check_comparable(each)
    assert not isinstance(each, ProtocolSet), "it was refused"
    return compared(measures(first, each), measures(second, each))


def check_comparable(each: EvaluationSet) -> None:
    """Raise `UserError` if two networks cannot be compared on the same draws of a set."""
    if isinstance(each, ProtocolSet):
        raise UserError(f"{each.name}: models are compared on sets of pairs or images only")
    if isinstance(each, VerificationPairs):
        return
    if reason := why_not_compared(np.asarray(each.labels)):
        raise UserError(f"{each.name}: {reason}")


def compared(first: Measures, second: Measures) -> list[PairedDifference]:
    """The differences of two networks, with the people of a set drawn the same way for both."""
    left, right = first.statistic, second.statistic
    ones = np.ones((1, first.identities), np.float32)
    values = left(ones)[0], right(ones)[0]
    drawn = bootstrap(lambda weights: right(weights) - left(weights), first.identities)
    return [
        PairedDifference(name, float(values[0][i]), float(values[1][i]), interval(drawn[:, i]))
        for i, name in enumerate(first.names)
    ]


def measures(
    features: np.ndarray, each: VerificationPairs | ImageSet, with_curve: bool = True
) -> Measures:
    """The measures of unit features [N, D]. ``with_curve`` includes AUC and EER, which take
    longest."""
    if not isinstance(each, VerificationPairs):
        return measures_of_all(all_pair_scores(features, np.asarray(each.labels)))
    distances = squared_distances(features[::2], features[1::2])
    left, right = linked_identities(each.images, each.same)
    scores = listed_scores(cosine_of(distances), each.same, left, right)
    names, tars = _tars(scores, len(scores.impostors))
    statistics = [tars]
    if with_curve and len(scores.genuine) and len(scores.impostors):
        names, statistics = [*CURVE_MEASURES, *names], [area_and_equal_error(scores), tars]
    if why_no_accuracy(each) is None:
        accuracy = ten_fold_accuracy(distances, each.same, left, right)
        names = ["accuracy", *names]
        statistics.insert(0, lambda weights: accuracy(weights)[:, None])

    def all_of(weights: np.ndarray) -> np.ndarray:
        return np.concatenate([statistic(weights) for statistic in statistics], axis=1)

    return Measures(names, all_of, scores.identities)


def measures_of_all(scores: PairScores) -> Measures:
    """The measures of all pairs of a set of images."""
    assert scores.totals is not None, "the impostor pairs are not all known"
    ones = np.ones((1, scores.identities), np.float32)
    names, tars = _tars(scores, int(scores.totals.weigh(ones)[0]))
    return Measures(names, tars, scores.identities)


def drawn_mean_accuracies(
    features: Sequence[np.ndarray], sets: Sequence[VerificationPairs]
) -> np.ndarray:
    """The mean ten-fold accuracy over ``sets`` in each draw [DRAWS] of people.

    ``features`` holds the unit features of each set. People are drawn from all sets together; equal
    image files are the same person in every set. Two networks get the same draws on the same sets,
    so an interval of their difference shows whether one is better by more than noise.
    """
    same = np.concatenate([each.same for each in sets])
    left, right = linked_identities([image for each in sets for image in each.images], same)
    ends = np.cumsum([len(each) for each in sets])
    accuracies = [
        ten_fold_accuracy(
            squared_distances(unit[::2], unit[1::2]),
            each.same,
            left[end - len(each) : end],
            right[end - len(each) : end],
        )
        for unit, each, end in zip(features, sets, ends.tolist(), strict=True)
    ]
    identities = int(max(left.max(), right.max())) + 1
    return bootstrap(
        lambda weights: np.mean([accuracy(weights) for accuracy in accuracies], axis=0), identities
    )


def _tars(scores: PairScores, impostors: int) -> tuple[list[str], Statistic]:
    rates = [rate for rate in plan_rates(len(scores.genuine), impostors) if rate.reason is None]
    statistic = tars_and_thresholds(scores, [rate.exponent for rate in rates])
    return [f"TAR at FAR {rate.name}" for rate in rates], lambda w: statistic(w)[:, :, 0]
