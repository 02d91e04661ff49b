"""All that the page shows of one network on one set; kept of it is little, whatever the set."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.pairs import VerificationPairs
from curation.store import ImageSet
from distill.evaluation.evaluate_sets import score_all, score_pairs, score_protocol
from distill.evaluation.features import Embedded, why_broken
from distill.evaluation.identify_sets import search_themselves
from distill.evaluation.pair_scan import HighestScores, LowestMates
from distill.evaluation.paired import Measures, measures
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.score_counts import CountedScores, Curve, ScoreCounts, listed_counts
from distill.evaluation.set_features import EvaluationSet

MOST_SEARCHED = 100_000
"""Images of a set that is also searched (1:N), which takes two more copies of its features"""
_BARS = 100
"""Of a histogram, from -1 to 1"""


@dataclass(frozen=True)
class WorstPair:
    """Two images of a set by their numbers, and the cosine that they should not have."""

    score: float
    left: int
    right: int


@dataclass(frozen=True)
class NetworkOnSet:
    """One network on one set.

    ``report`` is what `evaluate` says of the set; without a ``curve`` (and histograms, the shares
    [`_BARS`] of the pairs of each kind), where nothing is measured.
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


def measure(embedded: Embedded, each: EvaluationSet, worst: int) -> NetworkOnSet:
    """Measure the N features of a set, and find the ``worst`` pairs of each kind.

    Of a protocol there are its own measures alone.
    """
    features = embedded.unit
    if isinstance(each, ProtocolSet):
        return NetworkOnSet(score_protocol(embedded, each), None)
    if isinstance(each, VerificationPairs):
        report, counts, accepts, rejects = _listed(features, each, worst)
    else:
        report, counts, accepts, rejects = _all(features, each, worst)
    if why_broken(features) or not counts.both_kinds:
        return NetworkOnSet(report, None)
    return NetworkOnSet(
        report,
        measures(features, each),
        counts.curve(),
        _shares(counts.genuine),
        _shares(counts.impostors),
        accepts,
        rejects,
    )


def bar_edges() -> np.ndarray:
    """Where the bars of histograms begin and end, [_BARS + 1]."""
    return np.linspace(-1, 1, _BARS + 1)


Found = tuple[dict[str, Any], ScoreCounts, tuple[WorstPair, ...], tuple[WorstPair, ...]]


def _all(features: np.ndarray, each: ImageSet, worst: int) -> Found:
    counted, highest, lowest = CountedScores(), HighestScores(worst), LowestMates(worst)
    labels = np.asarray(each.labels)
    scored = score_all(features, labels, counted=counted, collectors=[highest, lowest])
    report = {"kind": "all-pairs", "digest": each.digest, **scored}
    if len(each) <= MOST_SEARCHED and not why_broken(features):
        report |= search_themselves(features, labels)
    order = np.argsort(labels, kind="stable")
    accepts, rejects = (
        tuple(
            WorstPair(float(score), int(order[left]), int(order[right]))
            for score, left, right in zip(found.scores, found.probes, found.gallery, strict=True)
        )
        for found in (highest.descending(), lowest.ascending())
    )
    return report, counted.counts, accepts, rejects


def _listed(features: np.ndarray, pairs: VerificationPairs, worst: int) -> Found:
    report = score_pairs(features, pairs)
    cosines = np.einsum("nd,nd->n", features[::2], features[1::2])
    if not np.isfinite(cosines).all():
        return report, ScoreCounts(), (), ()

    def found(chosen: np.ndarray) -> tuple[WorstPair, ...]:
        return tuple(
            WorstPair(float(cosines[i]), 2 * int(i), 2 * int(i) + 1) for i in chosen[:worst]
        )

    impostors, genuine = np.flatnonzero(~pairs.same), np.flatnonzero(pairs.same)
    accepts = impostors[np.argsort(-cosines[impostors], kind="stable")]
    rejects = genuine[np.argsort(cosines[genuine], kind="stable")]
    return report, listed_counts(cosines, pairs.same), found(accepts), found(rejects)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts of fine bins as shares in bars; the ends' extra bins go to the last bars."""
    edges = np.linspace(1, len(counts) - 1, _BARS + 1).astype(int)
    edges[0], bars = 0, counts.copy()
    bars[-2] += bars[-1]
    return np.add.reduceat(bars[:-1], edges[:-1]) / max(counts.sum(), 1)
