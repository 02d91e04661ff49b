"""Faults of single images: wrong labels, non-faces, repeated pictures."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import rivals
from noise_faces import EPSILONS, LEAST_IMAGES, OURS, Faces, Row
from plant import Marks, in_hindsight, marks, marks_of, wrong_labels

from curation.noise.duplicates import find_repetitions
from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import judge_membership
from curation.noise.unusable import unusable_probability

SHARES = (0.05, 0.1, 0.2, 0.4)


def of_wrong_labels(faces: Faces, seed: int) -> Iterator[Row]:
    """Within the identities of five images or more, and in the whole set."""
    large = np.flatnonzero(faces.embedded.sizes[faces.labels] >= LEAST_IMAGES)
    for share in SHARES:
        for where, rows in (("large", large), ("all", np.arange(len(faces.labels)))):
            true = faces.labels[rows]
            target = "identity" if where == "large" else "image"
            given = wrong_labels(true, share, target, np.random.default_rng(seed))
            images, order, _ = faces.relabelled(given, faces.embedded.rows[rows])
            fault = f"wrong labels {share:.0%}, {where}"
            membership = judge_membership(images)
            ours = {OURS: membership.probability > 0.5}
            yield from _judged(fault, images, (given != true)[order], ours)


def of_non_faces(faces: Faces, seed: int) -> Iterator[Row]:
    """Each under the label of a random image."""
    which = np.flatnonzero(~faces.spoilt.repeated)
    labels = np.random.default_rng(seed).choice(faces.labels, len(which))
    images, order = faces.with_pictures(which, labels)
    membership = judge_membership(images)
    unusable = unusable_probability(images, membership) > 0.5
    ours = {
        OURS: unusable,
        f"{OURS}, with misplaced": unusable | (membership.probability > 0.5),
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
    """Every way of judging single images, over identities of five and of two images or more."""
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
    """Flags by each default; scores; and where there is no score, flags at many thresholds."""
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
    """Copies of photographs, changed a little, in the identity of the original."""
    place_of = {number: place for place, number in enumerate(faces.numbers.tolist())}
    repeated = np.flatnonzero(faces.spoilt.repeated)
    which = repeated[[source in place_of for source in faces.spoilt.sources[repeated].tolist()]]
    sources = np.array([place_of[source] for source in faces.spoilt.sources[which].tolist()])
    images, order = faces.with_pictures(which, faces.labels[sources])
    place = np.argsort(order)
    pairs = place[np.column_stack([sources, len(faces.labels) + np.arange(len(which))])]
    pictures = SimpleNamespace(read=lambda i: _picture(faces, which, int(order[i])))
    found = find_repetitions(pictures, images, judge_membership(images))
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
    """By the cosine within identities: every further picture of a group that holds together."""
    vectors = images.vectors(slice(None))
    merges, planted = rivals.merging_distances(vectors, images.offsets, pairs)
    nearest = float(np.median(rivals.nearest_distances(vectors, 1)))
    # Of unit vectors: squared Euclidean distance = 2 cosine distances.
    limit = np.sqrt(2 * rivals.DUPLICATE_RATIO * nearest)
    tried = [
        marks_of(int((planted <= t).sum()), int((merges <= t).sum()), len(pairs))
        for t in np.append(np.unique(planted), limit)
    ]
    yield "cleanlab near duplicates", tried[-1]
    yield "cosine, hindsight", max(tried[:-1], key=lambda one: one.f1)
