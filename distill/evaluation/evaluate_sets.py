"""A network's scores on named sets, each with the digest of the set it was measured on."""

from collections.abc import Sequence

import numpy as np

from curation.errors import UserError
from curation.pairs import VerificationPairs
from curation.progress import Progress
from curation.store import ImageSet
from distill.evaluation.all_pairs import all_pairs
from distill.evaluation.features import embed_distinct, embed_encoded
from distill.evaluation.rates import pair_rates
from distill.evaluation.thresholds import cosine_of, recommended_thresholds
from distill.evaluation.verification import (
    VAL_FALSE_ACCEPT_RATE,
    squared_distances,
    ten_fold,
)
from teachers.embedder import Embedder


def evaluate(
    embedder: Embedder,
    sets: Sequence[VerificationPairs | ImageSet],
    progress: Progress | None = None,
) -> dict:
    """Score ``embedder`` under the mirror rule on every set; the result is JSON.

    Verification pairs get the ten-fold protocol and TAR at FAR over their own pairs; an image set
    gets TAR at FAR over all its pairs. ``progress`` counts embedded images over all sets. ::

        {"embedder": DIGEST, "preprocessing": DIGEST, "mirror": "sum",
         "sets": {NAME: {"kind": "pairs" | "all-pairs", "digest": DIGEST, ...}},
         "thresholds": {...}}        # see `recommended_thresholds`
    """
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        raise UserError(f"evaluation sets {', '.join(names)}: two have one name; rename one")
    reports = {}
    done, total = 0, sum(_length(each) for each in sets)
    for each in sets:
        reports[each.name] = _score(embedder, each, _shifted(progress, done, total))
        done += _length(each)
    return {
        "embedder": embedder.digest,
        "preprocessing": embedder.preprocessing.digest,
        "mirror": "sum",
        "sets": reports,
        "thresholds": recommended_thresholds(reports),
    }


def _score(
    embedder: Embedder, each: VerificationPairs | ImageSet, progress: Progress | None
) -> dict:
    if isinstance(each, VerificationPairs):
        return _score_pairs(embedder, each, progress)
    features = embed_encoded(embedder, each.read, range(len(each)), each.name, progress)
    report = all_pairs(features, np.asarray(each.labels))
    return {"kind": "all-pairs", "digest": each.digest, **report}


def _score_pairs(embedder: Embedder, pairs: VerificationPairs, progress: Progress | None) -> dict:
    features = embed_distinct(embedder, pairs.images, pairs.name, progress)
    left, right = features[::2], features[1::2]
    distances = squared_distances(left, right)
    scores = ten_fold(distances, pairs.same)
    return {
        "kind": "pairs",
        "digest": pairs.digest,
        "pairs": len(pairs.same),
        "genuine": int(pairs.same.sum()),
        "impostors": int((~pairs.same).sum()),
        "accuracy": scores.accuracy,
        "std": scores.std,
        "threshold": scores.threshold,
        "cosine_threshold": cosine_of(scores.threshold),
        "val": {
            "far_wanted": VAL_FALSE_ACCEPT_RATE,
            "far": scores.far,
            "val": scores.val,
            "std": scores.val_std,
        },
        "tar_at_far": pair_rates(cosine_of(distances), pairs.same),
    }


def _length(each: VerificationPairs | ImageSet) -> int:
    """How many images are embedded; see `embed_distinct`."""
    return len(set(each.images)) if isinstance(each, VerificationPairs) else len(each)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one set as a part of the whole."""
    if progress is None:
        return None
    return lambda done, _count: progress(before + done, total)
