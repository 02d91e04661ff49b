"""Faults of single images: wrong labels, non-faces, duplicates."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import rivals
from noise_faces import EPSILONS, LEAST_IMAGES, OURS, Faces, Row
from plant import (
    Marks,
    Target,
    in_hindsight,
    marks,
    marks_of,
    out_of_set_labels,
    wrong_labels,
)

from curation.noise.checks.duplicate import find_duplicates
from curation.noise.checks.unusable import unusable_probability
from curation.noise.embedded import EmbeddedImages
from curation.noise.label_errors import estimate_label_errors

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
FEW_IDENTITIES = 300
BINS = np.array([0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
"""Bin edges of the probabilities in the reliability table"""


def of_wrong_labels(faces: Faces, seed: int) -> Iterator[Row]:
    """Closed-set (people of another identity) and open-set (people of none) in the whole set, and
    closed-set within 300 identities of five or more images and within all of those.
    """
    large = np.flatnonzero(faces.embedded.sizes[faces.labels] >= LEAST_IMAGES)
    some = faces.large(np.random.default_rng(seed))[:FEW_IDENTITIES]
    few = np.flatnonzero(np.isin(faces.labels, some))
    whole = np.arange(len(faces.labels))
    for share in SHARES:
        if share >= 0.05:
            yield from _closed(faces, large, "large", share, seed, "identity")
        yield from _closed(faces, whole, "all", share, seed)
        if share <= 0.1:
            yield from _closed(faces, few, "300 identities", share, seed)
            yield from _open(faces, whole, "all", share, seed)
            yield from _open(faces, few, "300 identities", share, seed)


def _closed(
    faces: Faces, rows: np.ndarray, where: str, share: float, seed: int, target: Target = "image"
) -> Iterator[Row]:
    true = faces.labels[rows]
    given = wrong_labels(true, share, target, np.random.default_rng(seed))
    fault = f"closed-set wrong labels {share:.1%}, {where}"
    yield from _wrongly_labelled(faces, fault, rows, given, given != true)


def _open(faces: Faces, rows: np.ndarray, where: str, share: float, seed: int) -> Iterator[Row]:
    left, given = out_of_set_labels(faces.labels[rows], share, np.random.default_rng(seed))
    faulty = given != faces.labels[rows[left]]
    fault = f"open-set wrong labels {share:.1%}, {where}"
    yield from _wrongly_labelled(faces, fault, rows[left], given, faulty)


def _wrongly_labelled(
    faces: Faces, fault: str, rows: np.ndarray, given: np.ndarray, faulty: np.ndarray
) -> Iterator[Row]:
    images, order, _ = faces.relabelled(given, faces.embedded.rows[rows])
    label_errors = estimate_label_errors(images)
    ours = {OURS: label_errors.probability > 0.5}
    for row in _judged(fault, images, faulty[order], ours):
        if row.method == OURS and row.over.endswith(" 2 images"):
            judged = images.sizes[images.labels] > 2  # in a pair, either may be the wrong one
            bins = reliability_bins(label_errors.probability[judged], faulty[order][judged])
            row = replace(row, reliability=bins)
        yield row


def reliability_bins(probability: np.ndarray, faulty: np.ndarray) -> np.ndarray:
    """int ``[bins, 2]``: images with a probability in each of ``BINS``, and the faulty ones."""
    last = len(BINS) - 2
    bins = np.clip(np.searchsorted(BINS, probability, "right") - 1, 0, last)
    return np.column_stack([np.bincount(each, minlength=last + 1) for each in (bins, bins[faulty])])


def of_non_faces(faces: Faces, seed: int) -> Iterator[Row]:
    """Each under the label of a random image."""
    which = np.flatnonzero(~faces.spoilt.repeated)
    labels = np.random.default_rng(seed).choice(faces.labels, len(which))
    images, order = faces.with_pictures(which, labels)
    label_errors = estimate_label_errors(images)
    unusable = unusable_probability(images, label_errors) > 0.5
    ours = {
        OURS: unusable,
        f"{OURS}, with misplaced": unusable | (label_errors.probability > 0.5),
    }
    norm = {"norm": -images.lengths()}
    yield from _judged("non-faces", images, order >= len(faces.labels), ours, norm)


def _judged(
    fault: str,
    images: EmbeddedImages,
    faulty: np.ndarray,
    ours: dict[str, np.ndarray],
    more_scores: dict[str, np.ndarray] | None = None,
) -> Iterator[Row]:
    """Every method on single images, over identities of five and of two or more images."""
    vectors = images.vectors(slice(None))
    flags, scores, sweeps = _rival_verdicts(images, vectors)
    sizes = images.sizes[images.labels]
    for least in (LEAST_IMAGES, 2):
        here, over = sizes >= least, f">= {least} images"
        for method, flagged in {**ours, **flags}.items():
            yield Row(fault, over, method, marks(flagged[here], faulty[here]))
        for method, score in {**scores, **(more_scores or {})}.items():
            best, _ = in_hindsight(score[here], faulty[here])
            yield Row(fault, over, f"{method}, hindsight", best)
        for method, masks in sweeps.items():
            tried = [marks(mask[here], faulty[here]) for mask in masks]
            yield Row(fault, over, f"{method}, hindsight", max(tried, key=lambda one: one.f1))


def _rival_verdicts(
    images: EmbeddedImages, vectors: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """Flags of each default; scores; and for methods without scores, flags at many thresholds."""
    offsets = images.offsets
    cosines = rivals.centre_cosines(vectors, offsets)
    robust = rivals.robust_centre_cosines(vectors, offsets)
    angles, _ = rivals.subcentre_angles(vectors, offsets)
    trees = rivals.single_linkage(vectors, offsets)
    issues, quality = rivals.label_issues(vectors, images.labels, offsets)
    outliers, distance = rivals.outliers(vectors)
    flags = {
        "centre": cosines < rivals.CENTRE_COSINE,
        "DBSCAN": rivals.outside_largest(len(vectors), trees, rivals.DBSCAN_EPSILON),
        "sub-centres": angles > rivals.SUBCENTRE_DEGREES,
        "cleanlab labels": issues,
        "cleanlab outliers": outliers,
    }
    scores = {
        "centre": -cosines,
        "robust centre": -robust,
        "sub-centres": angles,
        "cleanlab labels": -quality,
        "cleanlab outliers": distance,
    }
    sweep = [rivals.outside_largest(len(vectors), trees, epsilon) for epsilon in EPSILONS]
    return flags, scores, {"DBSCAN": sweep}


def of_repeated(faces: Faces, seed: int) -> Iterator[Row]:
    """Slightly altered copies of photographs, in the identity of the original."""
    place_of = {number: place for place, number in enumerate(faces.numbers.tolist())}
    repeated = np.flatnonzero(faces.spoilt.repeated)
    which = repeated[[source in place_of for source in faces.spoilt.sources[repeated].tolist()]]
    sources = np.array([place_of[source] for source in faces.spoilt.sources[which].tolist()])
    images, order = faces.with_pictures(which, faces.labels[sources])
    place = np.argsort(order)
    pairs = place[np.column_stack([sources, len(faces.labels) + np.arange(len(which))])]
    pictures = SimpleNamespace(read=lambda i: _picture(faces, which, int(order[i])))
    found = find_duplicates(pictures, images, estimate_label_errors(images))
    original = np.arange(len(images))
    for one in found:
        original[one.image] = one.original
    hits = int((original[pairs[:, 0]] == original[pairs[:, 1]]).sum())
    yield Row("repeated pictures", "pictures", OURS, marks_of(hits, len(found), len(pairs)))
    for method, one in _repeated_marks(images, pairs):
        yield Row("repeated pictures", "pictures", method, one)


def _picture(faces: Faces, which: np.ndarray, number: int) -> bytes:
    count = len(faces.labels)
    if number >= count:
        return faces.spoilt.files[which[number - count]]
    return faces.images.read(int(faces.numbers[number]))


def _repeated_marks(images: EmbeddedImages, pairs: np.ndarray) -> Iterator[tuple[str, Marks]]:
    """By the cosine within identities: every further image of a connected group."""
    vectors = images.vectors(slice(None))
    merges, planted = rivals.merging_distances(vectors, images.offsets, pairs)
    nearest = float(np.median(rivals.nearest_distances(vectors, 1)))
    # For unit vectors: squared Euclidean distance = 2 cosine distances.
    limit = np.sqrt(2 * rivals.DUPLICATE_RATIO * nearest)
    tried = [
        marks_of(int((planted <= t).sum()), int((merges <= t).sum()), len(pairs))
        for t in np.append(np.unique(planted), limit)
    ]
    yield "cleanlab near duplicates", tried[-1]
    yield "cosine, hindsight", max(tried[:-1], key=lambda one: one.f1)
