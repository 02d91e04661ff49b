"""How well faults are found that were planted into a real data set, beside other ways to clean.

Run: python tests/benchmarks/noise_quality.py --data STORE_OR_FOLDER --teacher FILE.onnx
     --embeddings FOLDER [--json]
Ours has one setting everywhere: flagged is what is more probable than not. The others get their
own default and, as "hindsight", the threshold that turns out best in each single row. Wants the
extra ``bench``: pip install -e '.[bench]'.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rivals
from fault_pictures import FaultPictures, fault_pictures
from plant import (
    Marks,
    People,
    divide_identities,
    in_hindsight,
    in_order,
    marks,
    marks_of,
    merge_identities,
    people_of,
    wrong_labels,
)

from curation.convert import convert
from curation.noise.divided import find_divided
from curation.noise.duplicates import find_repetitions
from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import judge_membership
from curation.noise.mixed import find_mixed
from curation.noise.unusable import unusable_probability
from curation.store import ImageSet
from curation.views import open_images
from distill.pipeline.seeing import open_teacher, see
from teachers.preprocessing import Preprocessing

SHARES = (0.05, 0.1, 0.2, 0.4)
PLANTED_IDENTITIES = 40
LEAST_IMAGES = 5
OURS = "ours"
EPSILONS = np.arange(0.7, 1.31, 0.1)


@dataclass(frozen=True)
class Row:
    """One method on one fault, with one seed."""

    fault: str
    over: str
    method: str
    marks: Marks


@dataclass(frozen=True)
class Faces:
    """A data set with embeddings, and pictures made to spoil it."""

    images: ImageSet
    embedded: EmbeddedImages
    spoilt: FaultPictures
    numbers: np.ndarray
    """int64 ``[N]``: which image of the set each is"""

    def without_known_errors(self, known: dict[str, list]) -> "Faces":
        """Without the errors of the data themselves that somebody saw: images and identities left
        out, identities put together."""
        labels = self.labels.copy()
        for first, second in known["divided"]:
            labels[labels == second] = first
        left_out = np.isin(labels, known["mixed"])
        left_out[known["misplaced"] + known["repeated"]] = True
        kept = np.flatnonzero(~left_out)
        embedded, order, _ = self.relabelled(labels[kept], self.embedded.rows[kept])
        return replace(self, embedded=embedded, numbers=kept[order])

    @property
    def labels(self) -> np.ndarray:
        """int ``[N]``"""
        return self.embedded.labels

    def large(self, random: np.random.Generator, least: int = LEAST_IMAGES) -> np.ndarray:
        """Identities of at least so many images, shuffled."""
        return random.permutation(np.flatnonzero(self.embedded.sizes >= least))

    def pairs(self, random: np.random.Generator, least: int) -> np.ndarray:
        """Pairs int64 ``[P, 2]`` of identities: of ``LEAST_IMAGES``, and of ``least``, or more."""
        first = self.large(random)[:PLANTED_IDENTITIES]
        second = np.setdiff1d(self.large(random, least), first, assume_unique=True)
        return np.column_stack([first, random.permutation(second)[:PLANTED_IDENTITIES]])

    def relabelled(
        self, labels: np.ndarray, rows: np.ndarray | None = None
    ) -> tuple[EmbeddedImages, np.ndarray, np.ndarray]:
        """As of ``in_order``; of all images or of ``rows``."""
        embedded = self.embedded
        return in_order(
            labels, embedded.unit, embedded.norm, embedded.rows if rows is None else rows
        )

    def with_pictures(
        self, which: np.ndarray, labels: np.ndarray
    ) -> tuple[EmbeddedImages, np.ndarray]:
        """The images and after them these pictures, in order of labels; where each stood before."""
        embedded = self.embedded
        unit = np.concatenate([embedded.unit[embedded.rows], self.spoilt.unit[which]])
        norm = np.concatenate([embedded.norm[embedded.rows], self.spoilt.norm[which]])
        both = np.concatenate([self.labels, labels])
        images, order, _ = in_order(both, unit, norm, np.arange(len(both)))
        return images, order


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


def of_merged(faces: Faces, seed: int) -> Iterator[Row]:
    """Pairs of people under one label, without and with wrong labels beside them.

    Where wrong labels happen to bring two images of one stranger together, nothing is counted.
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
            found = find_mixed(images, judge_membership(images))
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
    """One person under two labels, without and with wrong labels beside them.

    A pair of identities is right where one person has most images of both, as wrong labels may
    bring about too; where it is half of them, nothing is counted.
    """
    for share in (0.0, 0.1):
        random = np.random.default_rng(seed)
        given = divide_identities(faces.labels, faces.large(random)[:PLANTED_IDENTITIES], random)
        given = wrong_labels(given, share, "image", random)
        images, order, _ = faces.relabelled(given)
        people = people_of(faces.labels[order], images)
        into = find_divided(images, judge_membership(images)).into
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
    """Of pairs of identities ``[P, 2]``: as ``flagged``, or by their scores in hindsight."""
    same = people.first[pairs[:, 0]] == people.first[pairs[:, 1]]
    sure = (people.share[pairs] > 0.5).all(axis=1)
    right, counted = same & sure, ~same | sure
    most = people.first[people.share > 0.5]
    persons = np.unique(most, return_counts=True)[1]
    planted = int((persons * (persons - 1) // 2).sum())
    if flagged:
        return marks_of(int(right.sum()), int(counted.sum()), planted)
    return in_hindsight(scores[counted], right[counted], planted - int(right.sum()))[0]


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
    return (
        faces.images.read(number) if number < count else faces.spoilt.files[which[number - count]]
    )


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


FAULTS: dict[str, Callable[[Faces, int], Iterator[Row]]] = {
    "wrong-labels": of_wrong_labels,
    "merged": of_merged,
    "divided": of_divided,
    "repeated": of_repeated,
    "non-faces": of_non_faces,
}


def summarised(rows: list[Row]) -> list[dict[str, str | float]]:
    """Mean marks of each method on each fault, over the seeds; the order of their first rows."""
    groups: dict[tuple[str, str, str], list[Marks]] = {}
    for row in rows:
        groups.setdefault((row.fault, row.over, row.method), []).append(row.marks)
    return [
        {
            "fault": fault,
            "over": over,
            "method": method,
            "f1": float(np.mean([one.f1 for one in seeds])),
            "sd": float(np.std([one.f1 for one in seeds])),
            "precision": float(np.mean([one.precision for one in seeds])),
            "recall": float(np.mean([one.recall for one in seeds])),
        }
        for (fault, over, method), seeds in groups.items()
    ]


def show(summary: list[dict[str, str | float]], as_json: bool) -> None:
    """Print what was measured."""
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=1) + "\n")
        return
    sys.stdout.write(
        "| fault | over | method | F1 | precision | recall |\n|---|---|---|---|---|---|\n"
    )
    for row in summary:
        what = f"| {row['fault']} | {row['over']} | {row['method']} | {row['f1']:.3f}"
        sys.stdout.write(
            f"{what} ± {row['sd']:.3f} | {row['precision']:.3f} | {row['recall']:.3f} |\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a store, or what converts to one")
    parser.add_argument("--teacher", type=Path, required=True, help="an .onnx file")
    parser.add_argument("--embeddings", type=Path, required=True, help="where they are kept")
    parser.add_argument("--mean", type=float, default=0.0)
    parser.add_argument("--std", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--known", type=Path, help="errors of the data, to be taken out before")
    parser.add_argument("--only", choices=list(FAULTS), nargs="*", default=list(FAULTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = options.data
    if data.suffix not in (".lmdb", ".view"):
        convert(data, options.embeddings / f"{data.name}.lmdb")
        data = options.embeddings / f"{data.name}.lmdb"
    images = open_images(data)
    preprocessing = Preprocessing(colour="RGB", mean=options.mean, std=options.std)
    teacher = open_teacher(options.teacher, preprocessing)
    embedded, _ = see(images, teacher, options.embeddings)
    rows = []
    for seed in range(options.seeds):
        spoilt = fault_pictures(images, teacher, seed, options.embeddings)
        faces = Faces(images, embedded, spoilt, np.arange(len(images)))
        if options.known:
            faces = faces.without_known_errors(json.loads(options.known.read_text()))
        for fault in options.only:
            rows += FAULTS[fault](faces, seed)
            sys.stderr.write(f"seed {seed}: {fault} done\n")
    show(summarised(rows), options.json)


if __name__ == "__main__":
    main()
