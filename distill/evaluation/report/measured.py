"""The results of one network on one set that the page shows; small for a set of any size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.all_pairs import all_pair_scores, all_pairs, why_not_compared
from distill.evaluation.evaluate_sets import score_pairs, score_protocol, with_curve
from distill.evaluation.features import Embedded
from distill.evaluation.identify_sets import search_themselves
from distill.evaluation.pair_scan import HighestScores, LowestMates
from distill.evaluation.paired import Measures, measures, measures_of_all
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.score_counts import CountedScores, Curve, ScoreCounts
from distill.evaluation.set_features import EvaluationSet

MOST_REPORTED = 300_000
"""The most images of a set without explicit pairs: their 45 billion pairs take minutes. Far fewer
measure every FAR."""
MOST_SEARCHED = 100_000
"""The most images for a 1:N search as well, which takes two more copies of the features"""
_BARS = 100
"""Bars of a histogram, from -1 to 1"""


@dataclass(frozen=True)
class WorstPair:
    """Two images of a set, by index, and the cosine that gives a wrong decision."""

    score: float
    left: int
    right: int


@dataclass(frozen=True)
class NetworkOnSet:
    """One network on one set.

    ``report`` is the set's report from `evaluate`. ``genuine`` and ``impostors`` are histograms:
    the shares [`_BARS`] of the pairs. They and ``curve`` are None if nothing is measured.
    """

    report: dict[str, Any]
    measures: Measures | None
    curve: Curve | None = None
    genuine: np.ndarray | None = None
    impostors: np.ndarray | None = None
    accepts: tuple[WorstPair, ...] = ()
    """Impostor pairs with the highest scores"""
    rejects: tuple[WorstPair, ...] = ()
    """Genuine pairs with the lowest scores"""


def measure(
    embedded: Embedded, each: EvaluationSet, worst: int, progress: Progress | None = None
) -> NetworkOnSet:
    """Measure the features of a set, and find the ``worst`` genuine and impostor pairs.

    A protocol has only its own measures, and no worst pairs. ``progress`` counts scanned images of
    all pairs.
    """
    if isinstance(each, ProtocolSet):
        counts = ScoreCounts()
        return _found(score_protocol(embedded, each, counts=counts), None, counts, (), ())
    if isinstance(each, VerificationPairs):
        return _listed(embedded.unit, each, worst)
    return _all(embedded.unit, each, worst, progress)


def check_reportable(each: EvaluationSet) -> None:
    """Raise `UserError` if comparing all pairs of the set would take hours."""
    if isinstance(each, VerificationPairs | ProtocolSet) or len(each) <= MOST_REPORTED:
        return
    share = 0.9 * MOST_REPORTED / len(each)
    raise UserError(
        f"{each.name}: {len(each):,} images make {len(each) * (len(each) - 1) // 2:,} pairs, which "
        f"take hours to compare; a report takes at most {MOST_REPORTED:,} images of a set, enough "
        f"for every FAR: `curate view random SET VIEW --fraction {share:.2g}` draws them"
    )


def bar_edges() -> np.ndarray:
    """The edges [_BARS + 1] of the bars of histograms."""
    return np.linspace(-1, 1, _BARS + 1)


def _all(
    features: np.ndarray, each: ImageSet, worst: int, progress: Progress | None
) -> NetworkOnSet:
    """Measure all pairs in one scan; ``measures`` is None if there are too many genuine pairs."""
    counted, highest, lowest = CountedScores(), HighestScores(worst), LowestMates(worst)
    labels, collectors = np.asarray(each.labels), (counted, highest, lowest)
    compared = None
    if why_not_compared(labels):
        scored = all_pairs(features, labels, progress, collectors=collectors)
    else:
        scores = all_pair_scores(features, labels, progress, collectors)
        scored, compared = all_pairs(features, labels, scores=scores), measures_of_all(scores)
    scored = with_curve(scored, counted.counts, features, labels)
    report = {"kind": "all-pairs", "digest": each.digest, **scored}
    if len(each) <= MOST_SEARCHED:
        report |= search_themselves(features, labels)
    order = np.argsort(labels, kind="stable")
    accepts, rejects = (
        tuple(
            WorstPair(float(score), int(order[left]), int(order[right]))
            for score, left, right in zip(found.scores, found.probes, found.gallery, strict=True)
        )
        for found in (highest.descending(), lowest.ascending())
    )
    return _found(report, compared, counted.counts, accepts, rejects)


def _listed(features: np.ndarray, pairs: VerificationPairs, worst: int) -> NetworkOnSet:
    report = score_pairs(features, pairs)
    cosines = np.einsum("nd,nd->n", features[::2], features[1::2])

    def found(chosen: np.ndarray) -> tuple[WorstPair, ...]:
        return tuple(
            WorstPair(float(cosines[i]), 2 * int(i), 2 * int(i) + 1) for i in chosen[:worst]
        )

    impostors, genuine = np.flatnonzero(~pairs.same), np.flatnonzero(pairs.same)
    accepts = impostors[np.argsort(-cosines[impostors], kind="stable")]
    rejects = genuine[np.argsort(cosines[genuine], kind="stable")]
    counts = ScoreCounts()
    counts.add(cosines, pairs.same)
    compared = measures(features, pairs) if counts.both_kinds else None
    return _found(report, compared, counts, found(accepts), found(rejects))


def _found(
    report: dict[str, Any],
    compared: Measures | None,
    counts: ScoreCounts,
    accepts: tuple[WorstPair, ...],
    rejects: tuple[WorstPair, ...],
) -> NetworkOnSet:
    if not counts.both_kinds:
        return NetworkOnSet(report, None)
    shares = _shares(counts.genuine), _shares(counts.impostors)
    return NetworkOnSet(report, compared, counts.curve(), *shares, accepts, rejects)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Merge fine bins into bars, as shares; the extra bins at the ends join the outermost bars."""
    edges = np.linspace(1, len(counts) - 1, _BARS + 1).astype(int)
    edges[0], bars = 0, counts.copy()
    bars[-2] += bars[-1]
    return np.add.reduceat(bars[:-1], edges[:-1]) / max(counts.sum(), 1)
