"""Every measure by group: for the pairs within a group and for those across two groups.

In addition to its own measures, a group has the TAR and FAR at the threshold of the whole set,
which show whose pairs are rejected or accepted more often than others. The report names the worst
group for each measure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.bootstrap import bootstrap, by_blocks, interval
from distill.evaluation.features import Embedded
from distill.evaluation.pair_scan import PairScan, Tile
from distill.evaluation.pair_scores import ImpostorTotals, linked_identities
from distill.evaluation.slice_tables import Attribute, pairings
from distill.evaluation.thresholds import cosine_of
from distill.evaluation.verification import squared_distances

MOST_PASSED = 200_000
"""The most impostor pairs of the whole set above the threshold; every draw weights each of them"""
_HIGHER_IS_BETTER = {"accuracy": True, "auc": True, "eer": False}

ScorePairs = Callable[[np.ndarray, VerificationPairs, bool], dict[str, Any]]
ScoreImages = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Passed:
    """The pairs that pass a threshold.

    ``genuine`` [I] counts the genuine pairs of each person, ``passed`` [I] those that pass.
    ``left`` and ``right`` are the people of the impostor pairs that pass. ``impostors`` maps the
    weights of draws to the total weight of all impostor pairs.
    """

    genuine: np.ndarray
    passed: np.ndarray
    left: np.ndarray
    right: np.ndarray
    impostors: Callable[[np.ndarray], np.ndarray]

    def rates(self, intervals: bool) -> dict[str, Any]:
        """``tar`` and ``far`` with their intervals; None if there are no pairs of the kind."""
        people, above_threshold = len(self.genuine), _listed_total(self.left, self.right)

        def tar(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                return (weights @ self.passed) / (weights @ self.genuine)

        def far(weights: np.ndarray) -> np.ndarray:
            above = above_threshold(weights)
            with np.errstate(invalid="ignore", divide="ignore"):
                return above / self.impostors(weights)

        once = np.ones((1, people), np.float32)
        report: dict[str, Any] = {}
        measures = (("tar", tar, self.genuine.sum()), ("far", far, self.impostors(once)[0]))
        for name, measure, count in measures:
            report[name] = float(measure(once)[0]) if count else None
            if intervals and count and people > 1:
                report[f"{name}_interval"] = interval(bootstrap(measure, people))
        return report


class AboveThreshold:
    """A collector of the pairs that pass a threshold in a scan of ``probes``.

    By position of the probe in the scan, it counts all genuine pairs, ``mates`` [P], and those that
    pass, ``passed`` [P]. It keeps the positions of the impostor pairs that pass.
    """

    def __init__(self, threshold: float, probes: int) -> None:
        self._threshold = np.float32(threshold)
        self.mates, self.passed = np.zeros(probes, np.int64), np.zeros(probes, np.int64)
        self.pairs: list[np.ndarray] = [np.empty((0, 2), np.int64)]

    def add(self, tile: Tile) -> None:
        """Offer all scores of a tile."""
        hot = np.flatnonzero(tile.best > self._threshold)
        if len(hot):
            rows, columns, _ = tile.scores.above(hot, self._threshold)
            found = [rows + tile.rows.start, columns + tile.columns.start]
            self.pairs.append(np.column_stack(found))
        if tile.mates is not None and tile.mate_scores is not None:
            rows, count = tile.mates[:, 0], tile.rows.stop - tile.rows.start
            above = rows[tile.mate_scores > self._threshold]
            self.mates[tile.rows] += np.bincount(rows, minlength=count)
            self.passed[tile.rows] += np.bincount(above, minlength=count)


def slice_pairs(
    embedded: Embedded,
    each: VerificationPairs,
    attribute: Attribute,
    whole: dict[str, Any],
    score: ScorePairs,
    intervals: bool,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The report of an attribute for a set of pairs; ``whole`` is the report of the set.

    ``progress`` counts the images of the pairs of groups.
    """
    point = operating_point(whole)
    left, right = linked_identities(each.images, each.same)
    cosines = cosine_of(squared_distances(embedded.unit[::2], embedded.unit[1::2]))
    pairs_of = _pairs_by_groups(attribute)

    def measured(one: int, other: int) -> dict[str, Any] | None:
        chosen = pairs_of.get((one, other))
        if chosen is None:
            return None
        sides = np.column_stack([2 * chosen, 2 * chosen + 1]).ravel()
        images = [each.images[side] for side in sides.tolist()]
        part = VerificationPairs(images, each.same[chosen], each.digest, each.name)
        report = {"images": len(np.unique(sides)), **score(embedded.unit[sides], part, intervals)}
        if point is not None:
            above = cosines[chosen] > point["threshold"]
            passed = _passed_pairs(left[chosen], right[chosen], each.same[chosen], above)
            report["at_threshold"] = {**point, **passed.rates(intervals)}
        return report

    return _reported(attribute, measured, progress)


def _passed_pairs(
    left: np.ndarray, right: np.ndarray, same: np.ndarray, above: np.ndarray
) -> Passed:
    """Which pairs pass, given the identities int64 [n] of both sides, and bool [n] whether they
    are the same person and above the threshold."""
    people, numbered = np.unique(np.concatenate([left, right]), return_inverse=True)
    lefts, rights = numbered[: len(left)], numbered[len(left) :]
    return Passed(
        np.bincount(lefts[same], minlength=len(people)),
        np.bincount(lefts[same & above], minlength=len(people)),
        lefts[~same & above],
        rights[~same & above],
        _listed_total(lefts[~same], rights[~same]),
    )


def _pairs_by_groups(attribute: Attribute) -> dict[tuple[int, int], np.ndarray]:
    """The pairs of each group, and of each two groups, in order, for a set of pairs."""
    groups = np.sort(attribute.of.reshape(-1, 2), axis=1)
    kinds, kind_of, counts = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    ordered = np.argsort(kind_of.ravel(), kind="stable")
    parts = np.split(ordered, np.cumsum(counts)[:-1])
    return {(one, other): part for (one, other), part in zip(kinds.tolist(), parts, strict=True)}


def slice_images(
    embedded: Embedded,
    each: ImageSet,
    attribute: Attribute,
    whole: dict[str, Any],
    score: ScoreImages,
    intervals: bool,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The report of an attribute for all pairs of an image set, whose report is ``whole``.

    ``progress`` counts the images of the pairs of groups.
    """
    point = operating_point(whole)
    labels = np.asarray(each.labels)
    members = [np.flatnonzero(attribute.of == group) for group in range(len(attribute.groups))]

    def measured(one: int, other: int) -> dict[str, Any] | None:
        sides = [members[one], members[other]]
        if one == other and len(sides[0]) < 2:
            return None
        if not all(map(len, sides)):
            return None
        above = None if point is None else AboveThreshold(point["threshold"], len(sides[0]))
        scans = [(embedded.unit[side], labels[side]) for side in sides]
        scanned = scans[0] if one == other else (*scans[0], *scans[1])
        report = score(*scanned, intervals=intervals, collectors=[above] if above else [])
        if point is not None and above is not None:
            passed = _passed(above, labels[sides[0]], labels[sides[1]], one == other)
            report["at_threshold"] = {**point, **passed.rates(intervals)}
        return report

    return _reported(attribute, measured, progress)


def operating_point(whole: dict[str, Any]) -> dict[str, Any] | None:
    """The threshold of the whole set to evaluate groups at; None if no threshold is measured.

    The threshold of FAR 1e-3. Very large sets use a lower FAR; small sets use 1e-2 or the best
    accuracy.
    """
    rates = whole["tar_at_far"]
    for rate in ("1e-3", "1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-2"):
        allowed = whole["impostors"] * float(rate)
        if rates[rate]["tar"] is not None and allowed <= MOST_PASSED:
            return {"threshold": rates[rate]["cosine_threshold"], "of": f"FAR {rate}"}
    if whole.get("cosine_threshold") is not None:
        return {"threshold": whole["cosine_threshold"], "of": "the best accuracy"}
    return None


def _passed(above: AboveThreshold, one: np.ndarray, other: np.ndarray, itself: bool) -> Passed:
    """The passing pairs of a scan of images with the labels ``one`` [P] and ``other`` [G]."""
    scan_one = one[np.argsort(one, kind="stable")]
    people, numbered = np.unique(np.concatenate([one, other]), return_inverse=True)
    ones = np.bincount(numbered[: len(one)], minlength=len(people))
    others = np.bincount(numbered[len(one) :], minlength=len(people))
    totals = ImpostorTotals(ones) if itself else ImpostorTotals(ones, others)
    order = scan_one if itself else _gallery_labels(one, other)
    pairs = np.concatenate(above.pairs)
    rows = np.searchsorted(people, scan_one)
    genuine, passed = np.zeros((2, len(people)))
    np.add.at(genuine, rows, above.mates)
    np.add.at(passed, rows, above.passed)
    return Passed(
        genuine,
        passed,
        rows[pairs[:, 0]],
        np.searchsorted(people, order)[pairs[:, 1]],
        totals.weigh,
    )


def _gallery_labels(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The labels ``other`` in the order of a scan."""
    empty = np.empty((len(other), 1), np.float32)
    return PairScan(np.empty((len(one), 1), np.float32), one, empty, other, 1).gallery_labels


def _listed_total(left: np.ndarray, right: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return by_blocks(lambda weights: _summed(weights, left, right), len(left))


def _summed(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The sum [B] of the weights of impostor pairs; a pair within a person has the person's."""
    one, other = weights[:, left], weights[:, right]
    return np.where(left == right, one, one * other).sum(axis=1, dtype=np.float64)


def _reported(
    attribute: Attribute,
    measured: Callable[[int, int], dict[str, Any] | None],
    progress: Progress | None,
) -> dict[str, Any]:
    names, within, across = attribute.groups, {}, []
    sizes = np.bincount(attribute.of[attribute.of >= 0], minlength=len(names)).tolist()
    paired = [
        sizes[one] + (sizes[other] if other != one else 0) for one, other in pairings(attribute)
    ]
    done = 0
    for (one, other), images in zip(pairings(attribute), paired, strict=True):
        report = measured(one, other)
        done += images
        if progress is not None:
            progress(done, sum(paired))
        if report is None:
            continue
        if one == other:
            within[names[one]] = report
        else:
            across.append({"groups": [names[one], names[other]], **report})
    in_none = int((attribute.of < 0).sum())
    return {"within": within, "across": across, "in_no_group": in_none, "worst": worst(within)}


def worst(within: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By measure, the worst group with its value and interval; needs at least two groups."""
    values: dict[str, dict[str, tuple[float, Any]]] = {}
    for group, report in within.items():
        for name, (value, around) in _figures(report).items():
            values.setdefault(name, {})[group] = (value, around)
    found = {}
    for name, groups in values.items():
        if len(groups) > 1:
            sign = 1 if _HIGHER_IS_BETTER.get(name, name.startswith("tar")) else -1
            group = min(groups, key=lambda each: sign * groups[each][0])
            value, around = groups[group]
            found[name] = {"group": group, "value": value, "interval": around}
    return found


def _figures(report: dict[str, Any]) -> dict[str, tuple[float, Any]]:
    held = report.get("at_threshold", {})
    found = {
        **{key: (report.get(key), report.get(f"{key}_interval")) for key in _HIGHER_IS_BETTER},
        **{
            f"tar_at_far {rate}": (each["tar"], each.get("interval"))
            for rate, each in report["tar_at_far"].items()
        },
        **{
            f"{key}_at_threshold": (held.get(key), held.get(f"{key}_interval"))
            for key in ("tar", "far")
        },
    }
    return {name: (value, around) for name, (value, around) in found.items() if value is not None}
