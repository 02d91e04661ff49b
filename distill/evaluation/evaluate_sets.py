"""A network's scores on named sets, each with the digest of the set it was measured on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from curation.progress import Progress, shifted
from distill.evaluation.all_pairs import all_pairs, cross_pairs
from distill.evaluation.bootstrap import (
    add_rate_intervals,
    area_and_equal_error,
    bootstrap,
    interval,
    recentred,
    ten_fold_accuracy,
)
from distill.evaluation.curves import area_under_roc, equal_error_rate
from distill.evaluation.features import Embedded
from distill.evaluation.measurable import why_nothing_differs
from distill.evaluation.pair_scan import Collector
from distill.evaluation.pair_scores import PairScores, linked_identities, listed_scores
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.rates import no_rates, pair_rates, plan_rates
from distill.evaluation.sampled_pairs import sampled_scores
from distill.evaluation.score_counts import CountedScores, ScoreCounts
from distill.evaluation.set_features import EvaluationSet, SetFeatures, distinct_images
from distill.evaluation.slice_tables import QUALITY, Attribute, quality, why_no_quality
from distill.evaluation.slices import slice_images, slice_pairs
from distill.evaluation.thresholds import cosine_of, recommended_thresholds
from distill.evaluation.verification import (
    VAL_FALSE_ACCEPT_RATE,
    squared_distances,
    ten_fold,
    why_no_folds,
)


def evaluate(
    answers: SetFeatures,
    sets: Sequence[EvaluationSet],
    progress: Progress | None = None,
    intervals: bool = True,
    slices: Mapping[str, Sequence[Attribute]] | None = None,
    scanned: Progress | None = None,
) -> dict:
    """Score a network's features on every set; the result is JSON.

    Verification pairs are scored with the ten-fold protocol and with TAR at FAR over their own
    pairs, an image set with TAR at FAR over all its pairs, a protocol with its own measures. Pairs
    and image sets also get ``auc`` and ``eer``; for an image set, ``auc_within`` and ``eer_within``
    bound their errors. A figure that a set cannot measure is null, with a ``reason``
    (`distill.evaluation.measurable` predicts most reasons before a network runs).

    ``progress`` counts embedded images over all sets, ``scanned`` the images compared with all
    others of their set or of a group. ``intervals`` adds 95 % intervals to figures and thresholds.
    ``slices`` maps names of sets to attributes; each set of pairs or images then has ``slices`` for
    these attributes and for quality (`distill.evaluation.slices`). ::

        {"embedder": DIGEST, "preprocessing": DIGEST, "mirror": "sum",
         "sets": {NAME: {"kind": "pairs" | "all-pairs", "digest": DIGEST, ...}},
         "thresholds": {...}}        # see `recommended_thresholds`
    """
    check_names(sets)
    for each in sets:
        answers.check(each)
    reports = {}
    done, total = 0, sum(map(distinct_images, sets))
    for each in sets:
        watched = shifted(progress, done, total)
        if slices is None or isinstance(each, ProtocolSet):
            reports[each.name] = _measure(answers, each, watched, intervals, scanned)
        else:
            attributes = slices.get(each.name, ())
            embedded = answers.embedded(each, watched)
            report = reports[each.name] = _score(embedded.unit, each, intervals, scanned)
            report["slices"] = sliced(embedded, each, attributes, report, intervals, scanned)
        done += distinct_images(each)
    return {
        "embedder": answers.embedder,
        "preprocessing": answers.preprocessing,
        "mirror": "sum",
        "sets": reports,
        "thresholds": recommended_thresholds(reports),
    }


def check_names(sets: Sequence[EvaluationSet]) -> None:
    """Raise `UserError` if two sets share a name: their scores could not be distinguished."""
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        raise UserError(f"evaluation sets {', '.join(names)}: two have the same name; rename one")


def _measure(
    answers: SetFeatures,
    each: EvaluationSet,
    progress: Progress | None,
    intervals: bool,
    scanned: Progress | None,
) -> dict:
    if isinstance(each, ProtocolSet):
        return score_protocol(answers.embedded(each, progress), each, intervals)
    return _score(answers.features(each, progress), each, intervals, scanned)


def _score(
    features: np.ndarray,
    each: VerificationPairs | ImageSet,
    intervals: bool,
    scanned: Progress | None,
) -> dict:
    if isinstance(each, VerificationPairs):
        return score_pairs(features, each, intervals)
    labels = np.asarray(each.labels)
    measured = score_all(features, labels, intervals=intervals, progress=scanned)
    return {"kind": "all-pairs", "digest": each.digest, **measured}


def sliced(
    embedded: Embedded,
    each: VerificationPairs | ImageSet,
    attributes: Sequence[Attribute],
    report: dict,
    intervals: bool = True,
    progress: Progress | None = None,
) -> dict:
    """The slices of each attribute and of quality, by name; see `distill.evaluation.slices`.

    ``progress`` counts the images of the pairs of groups, for one attribute after the other.
    """
    slices: dict[str, dict] = {}
    if reason := why_no_quality(embedded.norms):
        slices[QUALITY] = {"reason": reason}
    else:
        attributes = (*attributes, quality(embedded.norms))
    for one in attributes:
        if isinstance(each, VerificationPairs):
            found = slice_pairs(embedded, each, one, report, score_pairs, intervals, progress)
        else:
            found = slice_images(embedded, each, one, report, score_all, intervals, progress)
        slices[one.name] = found
    return slices


def score_all(
    features: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray | None = None,
    other_labels: np.ndarray | None = None,
    intervals: bool = True,
    collectors: Sequence[Collector] = (),
    progress: Progress | None = None,
) -> dict:
    """Score all pairs of images, or every image with every one of ``others``.

    ``progress`` counts scanned images.
    """
    counted = CountedScores()
    options: dict[str, Any] = {
        "intervals": intervals,
        "collectors": [counted, *collectors],
        "progress": progress,
    }
    if others is None or other_labels is None:
        report = all_pairs(features, labels, **options)
    else:
        report = cross_pairs(features, labels, others, other_labels, **options)
    return with_curve(report, counted.counts, features, labels, intervals)


def with_curve(
    report: dict,
    counts: ScoreCounts,
    features: np.ndarray,
    labels: np.ndarray,
    intervals: bool = True,
) -> dict:
    """Add ``auc`` and ``eer`` to a report of all pairs, from the ``counts`` of their scores."""
    rates = report.pop("tar_at_far")
    if not counts.both_kinds:
        return {**report, "auc": None, "eer": None, "tar_at_far": rates}
    curve = {"auc": counts.area_under_roc(), "eer": counts.equal_error_rate()}
    for name, bounded in curve.items():
        report[name] = bounded.value
        report[f"{name}_within"] = bounded.within
    if intervals and report.get("identities", 0) > 1:
        _add_curve_intervals(report, sampled_scores(features, labels))
    return {**report, "tar_at_far": rates}


def score_protocol(
    embedded: Embedded,
    each: ProtocolSet,
    intervals: bool = True,
    counts: ScoreCounts | None = None,
) -> dict:
    """The report of a protocol. The scores of all verified pairs are added to ``counts``."""
    measured = each.score(embedded, intervals, counts)
    return {"protocol": each.protocol, "digest": each.digest, **measured}


def score_pairs(features: np.ndarray, pairs: VerificationPairs, intervals: bool = True) -> dict:
    """The report of a set of pairs."""
    distances = squared_distances(features[::2], features[1::2])
    nothing = why_nothing_differs(pairs)
    no_folds = nothing or why_no_folds(pairs.same)
    rates = no_rates(nothing) if nothing else pair_rates(cosine_of(distances), pairs.same)
    report = {
        "kind": "pairs",
        "digest": pairs.digest,
        "pairs": len(pairs.same),
        "genuine": int(pairs.same.sum()),
        "impostors": int((~pairs.same).sum()),
        **(_no_folds(no_folds) if no_folds else _ten_folds(distances, pairs.same)),
        **_curve(cosine_of(distances), pairs.same, nothing is None),
        "tar_at_far": rates,
    }
    if intervals and not nothing:
        _add_intervals(report, distances, pairs, no_folds is None)
    return report


def _curve(cosines: np.ndarray, same: np.ndarray, measured: bool) -> dict:
    """``auc`` and ``eer``; None if nothing is measured or there is only one kind of pair."""
    if not measured or same.all() or not same.any():
        return {"auc": None, "eer": None}
    genuine, impostors = cosines[same], cosines[~same]
    return {
        "auc": area_under_roc(genuine, impostors),
        "eer": equal_error_rate(genuine, impostors),
    }


def _add_intervals(
    report: dict, distances: np.ndarray, pairs: VerificationPairs, has_accuracy: bool
) -> None:
    left, right = linked_identities(pairs.images, pairs.same)
    scores = listed_scores(cosine_of(distances), pairs.same, left, right)
    if has_accuracy:
        statistic = ten_fold_accuracy(distances, pairs.same, left, right)
        report["accuracy_interval"] = interval(bootstrap(statistic, scores.identities))
    if report["auc"] is not None and scores.identities > 1:
        _add_curve_intervals(report, scores)
    planned = plan_rates(report["genuine"], report["impostors"])
    add_rate_intervals(report["tar_at_far"], planned, scores)


def _add_curve_intervals(report: dict, scores: PairScores) -> None:
    """Add intervals of ``auc`` and ``eer``, from all pairs or a sample of them.

    A sample has no impostor pairs if nearly all images are of one person; then there are none.
    """
    if not len(scores.impostors):
        return
    statistic = area_and_equal_error(scores)
    own = statistic(np.ones((1, scores.identities), np.float32))[0]
    drawn = bootstrap(statistic, scores.identities)
    for place, name in enumerate(("auc", "eer")):
        report[f"{name}_interval"] = recentred(drawn[:, place], own[place], report[name])


def _ten_folds(distances: np.ndarray, same: np.ndarray) -> dict:
    """Ten-fold scores, and the rates over all pairs at the mean threshold of the folds."""
    scores = ten_fold(distances, same)
    accepted = cosine_of(distances) > cosine_of(scores.threshold)
    return {
        "accuracy": scores.accuracy,
        "std": scores.std,
        "threshold": scores.threshold,
        "cosine_threshold": cosine_of(scores.threshold),
        "tar": float(accepted[same].mean()),
        "far": float(accepted[~same].mean()),
        "val": {
            "far_wanted": VAL_FALSE_ACCEPT_RATE,
            "far": scores.far,
            "val": scores.val,
            "std": scores.val_std,
            **_note(int((~same).sum())),
        },
    }


def _note(impostors: int) -> dict:
    """A note if there are too few impostor pairs to measure the FAR of a VAL."""
    if impostors * VAL_FALSE_ACCEPT_RATE >= 1:
        return {}
    return {
        "note": f"{impostors:,} impostor pairs cannot show a FAR of 1e-3: one is more than that"
    }


def _no_folds(reason: str) -> dict:
    """The fields of `_ten_folds`, all null, with the reason why there is no accuracy."""
    scores = ("accuracy", "std", "threshold", "cosine_threshold", "tar", "far")
    val = {"far_wanted": VAL_FALSE_ACCEPT_RATE, "far": None, "val": None, "std": None}
    return {**dict.fromkeys(scores), "reason": reason, "val": val}
