"""Exact TAR at low FAR over *all* pairs of images, without holding all scores in memory.

One pass over the tiles of all pairs (`pair_scan`) keeps the genuine scores and the highest impostor
scores: twice as many as the largest measured FAR allows, so that intervals can be computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curation.errors import UserError
from curation.progress import Progress
from distill.evaluation.bootstrap import add_rate_intervals
from distill.evaluation.pair_scan import NOBODY, TILE, Collector, HighestScores, PairScan
from distill.evaluation.pair_scores import ImpostorTotals, PairScores, both_scores
from distill.evaluation.rates import (
    EXPONENTS,
    Rate,
    plan_rates,
    rate_report,
    share_above,
    thresholds_of,
)

MAXIMUM_KEPT = 25_000_000
"""Kept impostor scores: about 0.8 GB while the highest are selected."""
MOST_GENUINE = 25_000_000
"""Genuine scores in memory. If there are more, a second pass counts them, without intervals."""


def all_pairs(
    features: np.ndarray,
    labels: np.ndarray,
    progress: Progress | None = None,
    tile: int = TILE,
    intervals: bool = True,
    collectors: Sequence[Collector] = (),
    scores: PairScores | None = None,
) -> dict:
    """Verify every pair of images: unit ``features`` [N, D] with identity ``labels`` [N].

    Returns JSON: numbers of ``images``, ``identities``, ``genuine`` and ``impostors`` pairs, and
    ``tar_at_far`` as in `rates.rate_report`. ``collectors`` see all scores of the scan. ``scores``
    from `all_pair_scores` replace the scan. Runs on the GPU if there is one.
    """
    pairs = _own_pairs(labels)
    if scores is not None:
        planned = plan_rates(pairs.genuine, pairs.impostors, MAXIMUM_KEPT)
        rates = _rates_of(scores, planned, intervals)
    else:
        scan = PairScan(features, labels, tile=tile)
        rates = _verify(scan, pairs, progress, intervals, collectors=collectors)
    return {
        "images": len(labels),
        "identities": len(pairs.identities),
        "genuine": pairs.genuine,
        "impostors": pairs.impostors,
        "tar_at_far": rates,
    }


def cross_pairs(
    probes: np.ndarray,
    probe_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    progress: Progress | None = None,
    tile: int = TILE,
    intervals: bool = True,
    exponents: Sequence[int] = EXPONENTS,
    collectors: Sequence[Collector] = (),
) -> dict:
    """Verify every probe [P, D] with every gallery image [G, D], as Trillion-Pairs does.

    A gallery label of -1 marks a distractor of unknown identity, which must not be the identity of
    a probe. The gallery may be a memory map of any float type; it is read tile by tile. Intervals
    resample the identities of the probes only. ``exponents`` are those of the FARs to measure; a
    high FAR among very many pairs keeps very many scores. Returns JSON like `all_pairs`, with the
    numbers of ``probes`` and ``gallery`` images.
    """
    identities = np.unique(probe_labels)
    if (probe_labels == NOBODY).any():
        raise UserError("a probe has no identity; give labels for all probes")
    counts = [_count(labels, identities) for labels in (probe_labels, gallery_labels)]
    distractors = int((~np.isin(gallery_labels, identities)).sum())
    genuine = int(np.sum(counts[0] * counts[1]))
    impostors = len(probe_labels) * len(gallery_labels) - genuine
    scan = PairScan(probes, probe_labels, gallery, gallery_labels, tile)
    totals = ImpostorTotals(counts[0], counts[1], distractors)
    pairs = _Pairs(genuine, impostors, identities, totals)
    rates = _verify(scan, pairs, progress, intervals, exponents, collectors)
    return {
        "probes": len(probe_labels),
        "gallery": len(gallery_labels),
        "genuine": genuine,
        "impostors": impostors,
        "tar_at_far": rates,
    }


def pairs_with_distractors(
    features: np.ndarray,
    labels: np.ndarray,
    distractors: np.ndarray,
    progress: Progress | None = None,
    tile: int = TILE,
    intervals: bool = True,
    collectors: Sequence[Collector] = (),
) -> dict:
    """Verify every pair of images [N, D], ``labels`` [N], and each with every distractor [M, D].

    As in LFR and MegaFace, distractors are not compared with each other, because two of them may
    show the same person. ``collectors`` see all scores if a FAR is measured.
    Returns JSON like `all_pairs`, with the number of ``distractors``.
    """
    identities, sizes = np.unique(labels, return_counts=True)
    genuine = int(np.sum(sizes * (sizes - 1) // 2))
    own = len(labels) * (len(labels) - 1) // 2 - genuine
    comparisons = len(labels) * len(distractors)
    if genuine > MOST_GENUINE:
        raise UserError(f"{genuine:,} genuine pairs are too many; at most {MOST_GENUINE:,}")
    planned = plan_rates(genuine, own + comparisons, MAXIMUM_KEPT)
    largest = _largest_allowed(planned)
    if largest < 0:
        report = rate_report(planned, [], [])
    else:
        kept = (2 * largest if intervals else largest) + 1
        totals = ImpostorTotals(sizes, distractors=len(distractors))
        pairs = _Pairs(genuine, own, identities, totals)
        nobody = np.full(len(distractors), NOBODY, labels.dtype)
        scores = both_scores(
            _scores(PairScan(features, labels, tile=tile), pairs, kept, None, collectors),
            _scores(
                PairScan(features, labels, distractors, nobody, tile),
                replace(pairs, genuine=0, impostors=comparisons),
                kept,
                progress,
                collectors,
            ),
            min(kept, MAXIMUM_KEPT),
        )
        report = _rates_of(scores, planned, intervals)
    return {
        "images": len(labels),
        "identities": len(sizes),
        "distractors": len(distractors),
        "genuine": genuine,
        "impostors": own + comparisons,
        "tar_at_far": report,
    }


@dataclass(frozen=True)
class _Pairs:
    """The numbers of genuine and impostor pairs, and their ``identities`` [I]."""

    genuine: int
    impostors: int
    identities: np.ndarray
    totals: ImpostorTotals

    def places(self, labels: np.ndarray) -> np.ndarray:
        """The indices of ``labels`` [N] in the identities; -1 for other labels."""
        found = np.searchsorted(self.identities, labels)
        found = np.minimum(found, len(self.identities) - 1)
        known = self.identities[found] == labels
        return np.where(known, found, NOBODY).astype(np.int32)


def _count(labels: np.ndarray, identities: np.ndarray) -> np.ndarray:
    known = np.searchsorted(identities, labels[np.isin(labels, identities)])
    return np.bincount(known, minlength=len(identities))


def all_pair_scores(
    features: np.ndarray,
    labels: np.ndarray,
    progress: Progress | None = None,
    collectors: Sequence[Collector] = (),
) -> PairScores:
    """The scores that determine the rates over all pairs of images, and their intervals.

    ``collectors`` see all scores. Raises `UserError` with the reason of `why_not_compared`.
    """
    if reason := why_not_compared(labels):
        raise UserError(reason)
    pairs = _own_pairs(labels)
    largest = _largest_allowed(plan_rates(pairs.genuine, pairs.impostors, MAXIMUM_KEPT))
    kept = 2 * max(largest, 0) + 1
    return _scores(PairScan(features, labels), pairs, kept, progress, collectors)


def why_not_compared(labels: np.ndarray) -> str | None:
    """Why two networks cannot be compared on all pairs of images [N]; None if they can."""
    genuine = _own_pairs(labels).genuine
    if genuine <= MOST_GENUINE:
        return None
    return (
        f"{genuine:,} genuine pairs are too many to compare networks, at most {MOST_GENUINE:,}; "
        "give a view with fewer images per person (`curate view cap`)"
    )


def _own_pairs(labels: np.ndarray) -> _Pairs:
    """All pairs of images [N]."""
    identities, sizes = np.unique(labels, return_counts=True)
    genuine = int(np.sum(sizes * (sizes - 1) // 2))
    impostors = len(labels) * (len(labels) - 1) // 2 - genuine
    return _Pairs(genuine, impostors, identities, ImpostorTotals(sizes))


def _verify(
    scan: PairScan,
    pairs: _Pairs,
    progress: Progress | None,
    intervals: bool,
    exponents: Sequence[int] = EXPONENTS,
    collectors: Sequence[Collector] = (),
) -> dict:
    """`rates.rate_report` over all pairs of a scan."""
    planned = plan_rates(pairs.genuine, pairs.impostors, MAXIMUM_KEPT, exponents)
    largest = _largest_allowed(planned)
    if largest < 0:
        if collectors:
            _scan(scan, collectors, False, progress)
        return rate_report(planned, [], [])
    if pairs.genuine > MOST_GENUINE:
        highest = HighestScores(largest + 1)
        _scan(scan, [highest, *collectors], False, progress)
        thresholds = thresholds_of(planned, highest.descending().scores)
        counts = _count_genuine(scan, thresholds)
        return rate_report(planned, thresholds, (counts / pairs.genuine).tolist())
    kept = (2 * largest if intervals else largest) + 1
    scores = _scores(scan, pairs, kept, progress, collectors)
    return _rates_of(scores, planned, intervals)


def _rates_of(scores: PairScores, planned: list[Rate], intervals: bool) -> dict:
    thresholds = thresholds_of(planned, scores.impostors)
    tars = [share_above(scores.genuine[::-1], threshold) for threshold in thresholds]
    report = rate_report(planned, thresholds, tars)
    if intervals:
        add_rate_intervals(report, planned, scores)
    return report


def _largest_allowed(planned: list[Rate]) -> int:
    """The number of impostor pairs that the highest measured FAR allows; -1 if none is measured."""
    return max((rate.allowed for rate in planned if rate.reason is None), default=-1)


def _scores(
    scan: PairScan,
    pairs: _Pairs,
    kept: int,
    progress: Progress | None,
    collectors: Sequence[Collector] = (),
) -> PairScores:
    """All genuine scores of a scan, and the ``kept`` highest impostor scores."""
    highest = HighestScores(min(kept, pairs.impostors, MAXIMUM_KEPT))
    genuine, labels = _scan(scan, [highest, *collectors], True, progress)
    best, order = highest.descending(), np.argsort(-genuine, kind="stable")
    return PairScores(
        genuine=genuine[order],
        genuine_of=pairs.places(labels[order]),
        impostors=best.scores,
        left=pairs.places(scan.probe_labels)[best.probes],
        right=pairs.places(scan.gallery_labels)[best.gallery],
        identities=len(pairs.identities),
        totals=pairs.totals,
    )


def _scan(
    scan: PairScan, collectors: Sequence[Collector], held: bool, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """Offer all scores to ``collectors``; returns genuine scores [G] and labels if ``held``."""
    scores, labels = [np.empty(0, np.float32)], [np.empty(0, scan.probe_labels.dtype)]
    for tile in scan.tiles():
        for each in collectors:
            each.add(tile)
        if held and tile.mates is not None and tile.mate_scores is not None:
            scores.append(tile.mate_scores)
            labels.append(scan.probe_labels[tile.mates[:, 0] + tile.rows.start])
        if progress:
            progress(tile.columns.stop, len(scan.gallery_order))
    return np.concatenate(scores), np.concatenate(labels)


def _count_genuine(scan: PairScan, thresholds: list[float]) -> np.ndarray:
    """The number of genuine pairs above each threshold, int64 ``[len(thresholds)]``."""
    counts = np.zeros(len(thresholds), np.int64)
    for tile in scan.mated_tiles():
        if tile.mate_scores is not None:
            counts += [int((tile.mate_scores > each).sum()) for each in thresholds]
    return counts
