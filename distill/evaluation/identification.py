"""One-to-many identification: which of a gallery a probe is, or whether it is anybody of it.

A search has the cosine of the probe's best mate and those of the nearest images of others; all
measures are made of these, so that any number of distractors costs one pass (`pair_scan`). A mate
that shares its score with somebody else comes after them. Names follow NIST (FRTE 1:N).
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
    """What P probes of the identities ``labels`` [P] found in a gallery.

    ``mates`` [P] are the cosines of their best mates, -inf of a probe that has none; ``nearest``
    [P, K] those of the nearest images of others, descending, -inf where there are fewer.
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
    """Search unit ``probes`` [P, D] in ``gallery`` [G, D]; labels -1 are of unknown identity."""
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
    """The searches of the same probes in several galleries, as so many searches."""
    return Searches(
        np.concatenate([each.labels for each in several]),
        np.concatenate([each.mates for each in several]),
        np.concatenate([each.nearest for each in several]),
    )


def closed_set(searches: Searches, ranks: Sequence[int] = RANKS) -> dict:
    """How often the mate is among the first R, of the probes that have one. ::

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
    """MegaFace's identification: each image of a person in turn is the only mate of each other one.

    The mate of unit ``features`` [N, D] with ``labels`` [N] stands among the first n of the unit
    ``distractors`` [M, D], people who are not in the set, for each n of ``sizes``. Returns JSON,
    the rates by rank for each n. Source: Kemelmacher-Shlizerman et al., CVPR 2016, section 4.
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

    FPIR is the share of probes without a mate that find anybody above the threshold; FNIR that of
    the others whose mate is not above it. A FPIR that does not allow ten probes is null, with the
    ``reason``.
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
    """Each pair of one identity both ways: places of the probes [M] in the order of the scan, and
    scores [M]."""
    probes, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for tile in itself.mated_tiles():
        if tile.mates is not None and tile.mate_scores is not None:
            rows, columns = tile.mates.T
            probes += [rows + tile.rows.start, columns + tile.columns.start]
            scores += [tile.mate_scores] * 2
    return np.concatenate(probes), np.concatenate(scores)


def _as_pairs(searches: Searches) -> PairScores:
    """Best mates as genuine pairs, the best of the probes without one as impostors."""
    mated = searches.mated
    people, known = np.unique(searches.labels, return_inverse=True)
    known = known.astype(np.int32)
    strangers = searches.labels == NOBODY
    # Each image of nobody is a person of its own.
    known[strangers] = len(people) + np.arange(int(strangers.sum()), dtype=np.int32)
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
