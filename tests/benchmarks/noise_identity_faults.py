"""Faults of identities: two people under one label, one person under two."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import rivals
from noise_faces import EPSILONS, LEAST_IMAGES, OURS, PLANTED_IDENTITIES, Faces, Row
from plant import (
    Marks,
    People,
    in_hindsight,
    marks,
    marks_of,
    merge_identities,
    people_of,
    split_identities,
    wrong_labels,
)

from curation.noise.checks.divided import find_split_identities
from curation.noise.checks.mixed import find_mixed
from curation.noise.embedded import EmbeddedImages
from curation.noise.label_errors import estimate_label_errors


def of_merged(faces: Faces, seed: int) -> Iterator[Row]:
    """Pairs of people under one label, without and with label errors.

    If label errors happen to bring two images of one other person together, the identity is
    ignored.
    """
    for least in (LEAST_IMAGES, 2):
        for share in (0.0, 0.1):
            random = np.random.default_rng(seed)
            pairs = faces.pairs(random, least)
            given = merge_identities(faces.labels, pairs)
            given = wrong_labels(given, share, "image", random)
            images, order, names = faces.relabelled(given)
            faulty = np.isin(names, pairs[:, 0])
            counted = faulty | (people_of(faces.labels[order], images).second < 2)
            found = find_mixed(images, estimate_label_errors(images))
            fault = f"merged with {least} images or more, {share:.0%} wrong labels"
            for method, one in _merged_marks(images, faulty, counted, found.probability > 0.5):
                yield Row(fault, "identities", method, one)


def _merged_marks(
    images: EmbeddedImages, faulty: np.ndarray, counted: np.ndarray, ours: np.ndarray
) -> Iterator[tuple[str, Marks]]:
    vectors, offsets = images.vectors(slice(None)), images.offsets
    truth = faulty[counted]
    yield OURS, marks(ours[counted], truth)
    trees = rivals.single_linkage(vectors, offsets)
    default = rivals.second_clusters(offsets, trees, rivals.DBSCAN_EPSILON)
    yield "DBSCAN", marks(default[counted] > 0, truth)
    seconds = [rivals.second_clusters(offsets, trees, e)[counted] for e in EPSILONS]
    best = max((in_hindsight(one, truth)[0] for one in seconds), key=lambda one: one.f1)
    yield "DBSCAN, hindsight", best
    _, between = rivals.subcentre_angles(vectors, offsets)
    apart = between < np.cos(np.radians(rivals.SUBCENTRE_DEGREES))
    yield "sub-centres", marks(apart[counted], truth)
    yield "sub-centres, hindsight", in_hindsight(-between[counted], truth)[0]
    mean = np.add.reduceat(rivals.centre_cosines(vectors, offsets), offsets[:-1]) / images.sizes
    yield "centre", marks(mean[counted] < rivals.CENTRE_COSINE, truth)
    yield "centre, hindsight", in_hindsight(-mean[counted], truth)[0]


def of_divided(faces: Faces, seed: int) -> Iterator[Row]:
    """One person under two labels, without and with label errors.

    A pair of identities counts as correct if one person has most images of both, which label errors
    may also cause; if it is exactly half of them, the pair is ignored.
    """
    for share in (0.0, 0.1):
        random = np.random.default_rng(seed)
        given = split_identities(faces.labels, faces.large(random)[:PLANTED_IDENTITIES], random)
        given = wrong_labels(given, share, "image", random)
        images, order, _ = faces.relabelled(given)
        people = people_of(faces.labels[order], images)
        into = find_split_identities(images, estimate_label_errors(images)).into
        fault = f"divided identities, {share:.0%} wrong labels"
        ours = np.array(list(_together(into)), np.int64).reshape(-1, 2)
        yield Row(fault, "pairs", OURS, _pair_marks(ours, np.ones(len(ours)), people, flagged=True))
        for method, one in _divided_marks(images, people):
            yield Row(fault, "pairs", method, one)


def _together(groups: np.ndarray) -> Iterator[tuple[int, int]]:
    """All pairs, smaller first, of members int ``[K]`` with the same group."""
    for group in np.unique(groups[groups != np.arange(len(groups))]):
        yield from combinations(np.flatnonzero(groups == group).tolist(), 2)


def _divided_marks(images: EmbeddedImages, people: People) -> Iterator[tuple[str, Marks]]:
    """By the cosine of centres, and by cleanlab's counts of images that fit the other label."""
    vectors = images.vectors(slice(None))
    pairs, cosines = rivals.near_centres(vectors, images.offsets)
    near = cosines > rivals.CENTRE_COSINE
    yield "centre", _pair_marks(pairs[near], cosines[near], people, flagged=True)
    yield "centre, hindsight", _pair_marks(pairs, cosines, people)
    pairs, overlap = rivals.overlapping_classes(vectors, images.labels, images.offsets)
    yield "cleanlab labels, hindsight", _pair_marks(pairs, overlap, people)


def _pair_marks(
    pairs: np.ndarray, scores: np.ndarray, people: People, flagged: bool = False
) -> Marks:
    """The score of pairs of identities ``[P, 2]``, as ``flagged`` or with the best threshold."""
    same = people.first[pairs[:, 0]] == people.first[pairs[:, 1]]
    sure = (people.share[pairs] > 0.5).all(axis=1)
    right, counted = same & sure, ~same | sure
    most = people.first[people.share > 0.5]
    persons = np.unique(most, return_counts=True)[1]
    planted = int((persons * (persons - 1) // 2).sum())
    if flagged:
        return marks_of(int(right.sum()), int(counted.sum()), planted)
    return in_hindsight(scores[counted], right[counted], planted - int(right.sum()))[0]
