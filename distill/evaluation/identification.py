"""One-to-many identification: which gallery identity a probe shows, or whether it is enrolled.

A search yields the cosine of the probe's best mate and those of the nearest images of other people.
All measures are computed from these, so any number of distractors takes one pass (`pair_scan`).
A mate ranks below other people with the same score. Names follow NIST (FRTE 1:N).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.progress import Progress
from distill.evaluation.bootstrap import bootstrap, interval, tars_and_thresholds
from distill.evaluation.pair_scan import NOBODY, TILE, Nearest, PairScan
from distill.evaluation.pair_scores import PairScores
from distill.evaluation.rates import LEAST_ALLOWED

RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Searches:
    """The results of searching a gallery for P probes of identities ``labels`` [P].

    ``mates`` [P] holds the cosines of the best mates, -inf for a probe without a mate. ``nearest``
    [P, K] holds those of the nearest images of other people, descending, padded with -inf.
    """

    labels: np.ndarray
    mates: np.ndarray
    nearest: np.ndarray

    @property
    def mated(self) -> np.ndarray:
        """Which probes [P] have a mate in the gallery."""
        return np.isfinite(self.mates)


def search(
    probes: np.ndarray,
    probe_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    nearest: int = max(RANKS),
    progress: Progress | None = None,
    tile: int = TILE,
) -> Searches:
    """Search ``gallery`` [G, D] for ``probes`` [P, D], both unit; label -1 is unknown identity."""
    scan = PairScan(probes, probe_labels, gallery, gallery_labels, tile)
    found = Nearest(len(probes), nearest)
    mates = np.full(len(probes), -np.inf, np.float32)
    for each in scan.tiles():
        found.add(each)
        if each.mates is not None and each.mate_scores is not None:
            np.maximum.at(mates, each.mates[:, 0] + each.rows.start, each.mate_scores)
        if progress:
            progress(each.columns.stop, len(gallery))
    place = np.empty(len(probes), np.int64)
    place[scan.probe_order] = np.arange(len(probes))
    return Searches(probe_labels, mates[place], found.scores[place])


def joined(several: Sequence[Searches]) -> Searches:
    """Concatenate the searches of the same probes in several galleries."""
    return Searches(
        np.concatenate([each.labels for each in several]),
        np.concatenate([each.mates for each in several]),
        np.concatenate([each.nearest for each in several]),
    )


def closed_set(searches: Searches, ranks: Sequence[int] = RANKS) -> dict:
    """How often the mate is within rank R, for the probes that have a mate. ::

    {"probes": N, "ranks": {"1": {"rate": 0.98, "interval": [0.97, 0.99]}, ...}}
    """
    mated = searches.mated
    if not mated.any():
        raise UserError(
            "no probe has a mate in the gallery; give probes and gallery that share identities"
        )
    mates, nearest, labels = searches.mates[mated], searches.nearest[mated], searches.labels[mated]
    return {"probes": len(mates), "ranks": _ranks(mates, nearest, labels, ranks)}


def among_distractors(
    features: np.ndarray,
    labels: np.ndarray,
    distractors: np.ndarray,
    sizes: Sequence[int],
    ranks: Sequence[int] = RANKS,
    progress: Progress | None = None,
    tile: int = TILE,
) -> dict:
    """MegaFace identification: every pair of images of a person is a probe and its only mate.

    ``features`` [N, D] with ``labels`` [N] and ``distractors`` [M, D] are unit vectors. For each n
    of ``sizes``, the gallery is the mate and the first n distractors, who must be other people.
    Returns JSON, the rates by rank for each n. Source: Kemelmacher-Shlizerman et al., CVPR 2016,
    section 4.
    """
    itself = PairScan(features, labels, tile=tile)
    probes, mates = _mate_pairs(itself)
    if not len(probes):
        raise UserError("no identity of the probes has two images; give several of each person")
    order = itself.probe_order
    nobody = np.full(len(distractors), NOBODY, labels.dtype)
    scan = PairScan(features[order], labels[order], distractors, nobody, tile, sizes)
    nearest = Nearest(len(features), max(ranks))
    reached: dict[str, dict] = {}
    for each in scan.tiles():
        nearest.add(each)
        last = each.rows.stop == len(features)
        if last and (each.columns.stop in sizes or each.columns.stop == len(distractors)):
            scores = nearest.scores[probes]
            known = itself.probe_labels[probes]
            reached[str(each.columns.stop)] = _ranks(mates, scores, known, ranks)
        if progress:
            progress(each.columns.stop, len(distractors))
    return {"probes": len(mates), "distractors": reached}


def open_set(searches: Searches, exponents: Sequence[int] = (1, 2, 3)) -> dict:
    """FNIR at FPIR of 10^-exponent, and the thresholds. ::

        {"mated": N, "unmated": M, "fnir_at_fpir": {"1e-1": {"fnir", "threshold", "interval",
                                                     "threshold_interval"}, ...}}

    FPIR is the share of unmated probes with a candidate above the threshold; FNIR is the share of
    mated probes whose mate is not above it. If an FPIR allows fewer than ten probes, its figures
    are null, with a ``reason``.
    """
    mated = searches.mated
    scores = _as_pairs(searches)
    measured = [each for each in exponents if (~mated).sum() // 10**each >= LEAST_ALLOWED]
    drawn = None
    if measured and mated.any():
        drawn = bootstrap(tars_and_thresholds(scores, measured), scores.identities)
    report: dict[str, dict] = {}
    for exponent in exponents:
        allowed = len(scores.impostors) // 10**exponent
        if drawn is None or exponent not in measured:
            report[f"1e-{exponent}"] = _unmeasured(scores, exponent)
            continue
        threshold = float(scores.impostors[allowed])
        tars, thresholds = drawn[:, measured.index(exponent)].T
        report[f"1e-{exponent}"] = {
            "fnir": float(np.mean(scores.genuine <= threshold)),
            "threshold": threshold,
            "interval": interval(1 - tars),
            "threshold_interval": interval(thresholds),
        }
    return {
        "mated": int(mated.sum()),
        "unmated": int((~mated).sum()),
        "fnir_at_fpir": report,
    }


def _ranks(
    mates: np.ndarray, nearest: np.ndarray, labels: np.ndarray, ranks: Sequence[int]
) -> dict[str, dict]:
    report = {}
    people, place = np.unique(labels, return_inverse=True)
    totals = np.bincount(place).astype(np.float64)
    for rank in ranks:
        found = mates > nearest[:, rank - 1]
        hits = np.bincount(place, found)

        def rate(weights: np.ndarray, hits: np.ndarray = hits) -> np.ndarray:
            return weights @ hits / (weights @ totals)

        drawn = bootstrap(rate, len(people))
        report[str(rank)] = {"rate": float(found.mean()), "interval": interval(drawn)}
    return report


def _mate_pairs(itself: PairScan) -> tuple[np.ndarray, np.ndarray]:
    """Each genuine pair in both directions: positions [M] of the probes in the scan, scores [M]."""
    probes, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for tile in itself.mated_tiles():
        if tile.mates is not None and tile.mate_scores is not None:
            rows, columns = tile.mates.T
            probes += [rows + tile.rows.start, columns + tile.columns.start]
            scores += [tile.mate_scores] * 2
    return np.concatenate(probes), np.concatenate(scores)


def _as_pairs(searches: Searches) -> PairScores:
    """Best mates as genuine pairs, and the best candidates of unmated probes as impostor pairs."""
    mated = searches.mated
    strangers = searches.labels == NOBODY
    people, numbers = np.unique(searches.labels[~strangers], return_inverse=True)
    known = np.empty(len(strangers), np.int32)
    known[~strangers] = numbers
    # Each image of unknown identity counts as a separate person.
    known[strangers] = len(people) + np.arange(int(strangers.sum()))
    genuine = np.flatnonzero(mated)[np.argsort(-searches.mates[mated], kind="stable")]
    best = searches.nearest[:, 0]
    unmated = np.flatnonzero(~mated)[np.argsort(-best[~mated], kind="stable")]
    return PairScores(
        genuine=searches.mates[genuine],
        genuine_of=known[genuine],
        impostors=best[unmated],
        left=known[unmated],
        right=np.full(len(unmated), NOBODY, np.int32),
        identities=len(people) + int(strangers.sum()),
    )


def _unmeasured(scores: PairScores, exponent: int) -> dict:
    needed = LEAST_ALLOWED * 10**exponent
    reason = f"insufficient probes: {len(scores.impostors):,} without a mate, {needed:,} needed"
    if not len(scores.genuine):
        reason = "no probe has a mate in the gallery"
    return {"fnir": None, "threshold": None, "reason": reason}
