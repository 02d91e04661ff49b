"""Split identities: one person under several labels, and which of them to merge.

Each identity's prototype is compared with its nearest neighbours. The distribution for one person
under two labels is learned from identities that are split at random; see ``calibration``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curation.neighbours import normalised
from curation.noise.calibration import fit_cosine_ratio, probabilities, size_class
from curation.noise.check import FLAG, Context, Fates, NoiseCheck, check
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, FindingsMeta, require_indices
from curation.noise.label_errors import LabelErrors
from curation.noise.presentation import Evidence, Explanation, ScoredSubject
from curation.progress import Progress
from curation.wording import decimal

NEIGHBOURS = 8
SURE = 0.95
"""Only images with at least this trust are used in synthetic splits"""
SYNTHETIC = 10_000
"""Identities split at random to learn from"""


@check(
    "divided",
    "identity",
    order=30,
    precedence=60,
    explanation=Explanation(
        "One person under several identities",
        "The prototypes of two identities are as similar as those of one person's photographs.",
        "Are the two rows one person? Twins and siblings are the usual false alarms. If each of "
        "two identities is flagged for the other, only one is shown.",
        "The two identities are merged.",
    ),
)
class Divided(NoiseCheck):
    """One person under several identities."""

    rival_column = merge_column = "other_identity"

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Evidence: other_identity (the nearest other), similarity (of the prototypes), into (the
        identity to merge into; itself if unchanged).
        """
        found = find_split_identities(context.embedded, context.label_errors, progress=progress)
        flagged = (found.probability > FLAG).sum()
        identities = context.embedded.identities
        merged = (found.into != np.arange(identities)).sum()
        return self.finding(
            found.probability,
            {"other_identity": found.other, "similarity": found.similarity, "into": found.into},
            f"{flagged:,} of {identities:,} identities show the same person as another identity; "
            f"{merged:,} of them can be merged",
        )

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        require_indices(finding, "other_identity", meta.identities, least=-1)
        require_indices(finding, "into", meta.identities)

    def propose(self, finding: Finding, fates: Fates) -> Iterator[Decision]:
        into = finding.evidence["into"]
        for identity in np.flatnonzero(into != np.arange(len(into))).tolist():
            if not fates.gone[identity] and not fates.gone[into[identity]]:
                score = float(finding.scores[identity])
                note = f"prototypes' cosine {finding.evidence['similarity'][identity]:.3f}"
                yield Decision("merge", identity, None, int(into[identity]), score=score, note=note)

    def propose_one(self, one: ScoredSubject) -> list[Decision]:
        other = one.named("other_identity")
        return [Decision("merge", one.index, into=other)] if other >= 0 else []

    def evidence(self, one: ScoredSubject) -> Evidence:
        identity, other, into = one.index, one.named("other_identity"), one.named("into")
        if other < 0:
            return one.shown("No other identity was compared.")
        reason = f"Similarity {decimal(one.number('similarity'))} of the two prototypes."
        rows = [one.row(identity), one.row(other)]
        if into not in (-1, identity, other):
            rows.append(one.row(into, "Others like them are merged into"))
        return Evidence(f"Identity {identity} looks like identity {other}", reason, (), tuple(rows))


@dataclass(frozen=True)
class SplitIdentities:
    """The result for K identities."""

    probability: np.ndarray
    """float32 ``[K]``: of being the same person as ``other``"""
    other: np.ndarray
    """int64 ``[K]``: the nearest other identity"""
    similarity: np.ndarray
    """float32 ``[K]``: cosine between the two prototypes"""
    into: np.ndarray
    """int64 ``[K]``: the identity to merge into; itself if unchanged"""


@dataclass(frozen=True)
class NearIdentities:
    """Pairs of identities with similar prototypes, each pair once."""

    pairs: np.ndarray
    """int64 ``[P, 2]``: the smaller index first"""
    similarity: np.ndarray
    """float ``[P]``: cosine between the two prototypes"""
    probability: np.ndarray
    """float ``[P]``: of being one person"""


def find_split_identities(
    images: EmbeddedImages,
    label_errors: LabelErrors,
    seed: int = 0,
    progress: Progress | None = None,
) -> SplitIdentities:
    """Judge every identity's nearest neighbours; progress counts identities."""
    near = judge_neighbours(images, label_errors, seed, progress)
    if len(near.pairs) == 0:  # no neighbours
        none = np.zeros(images.identities, np.float32)
        other = np.full(images.identities, -1, np.int64)
        return SplitIdentities(none, other, none - 1, np.arange(images.identities))
    return _propose(images, near.pairs, near.similarity, near.probability)


def judge_neighbours(
    images: EmbeddedImages,
    label_errors: LabelErrors,
    seed: int = 0,
    progress: Progress | None = None,
) -> NearIdentities:
    """The probability that each identity and its nearest neighbours are one person.

    Empty if there are no examples to learn from. Progress counts identities.
    """
    weights = np.add.reduceat(label_errors.trust, images.offsets[:-1])
    pairs, similarity = _candidates(label_errors, progress)
    synthetic, fewer = _synthetic_splits(images, label_errors, np.random.default_rng(seed))
    if len(pairs) == 0 or len(synthetic) == 0:
        return NearIdentities(pairs[:0], similarity[:0], similarity[:0])
    first, second = weights[pairs[:, 0]], weights[pairs[:, 1]]
    ratio = fit_cosine_ratio(similarity, synthetic, size_class(fewer))
    probability = probabilities(ratio(similarity, size_class(np.minimum(first, second))))
    return NearIdentities(pairs, similarity, probability)


def _candidates(
    label_errors: LabelErrors, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs int64 ``[P, 2]`` of near identities, the smaller index first, and their cosines."""
    near, which = label_errors.search.search(label_errors.prototypes, NEIGHBOURS + 1, progress)
    own = np.repeat(np.arange(len(which)), which.shape[1])
    pairs = np.column_stack([own, which.ravel()])
    there = (pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])
    pairs, similarity = np.sort(pairs[there], axis=1), near.ravel()[there]
    pairs, once = np.unique(pairs, axis=0, return_index=True)
    return pairs, similarity[once]


def _synthetic_splits(
    images: EmbeddedImages, label_errors: LabelErrors, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The cosines and smaller image counts of identities split at random: both ``[M]``."""
    large = np.flatnonzero(images.sizes >= 2)
    cosines, fewer = [], []
    for identity in random.choice(large, min(SYNTHETIC, 10 * len(large))).tolist():
        which = images.images_of(identity)
        trusted = np.arange(which.start, which.stop)[label_errors.trust[which] > SURE]
        if len(trusted) < 2:
            continue
        vectors = images.vectors(random.permutation(trusted)[:512])
        # Few against many as often as halves: real split identities come in all sizes.
        first = int(np.exp(random.uniform(0, np.log(len(vectors)))))
        centres = normalised(np.stack([vectors[:first].sum(axis=0), vectors[first:].sum(axis=0)]))
        cosines.append(float(centres[0] @ centres[1]))
        fewer.append(min(first, len(vectors) - first))
    return np.array(cosines), np.array(fewer, np.float64)


def _propose(
    images: EmbeddedImages,
    pairs: np.ndarray,
    similarity: np.ndarray,
    probability: np.ndarray,
) -> SplitIdentities:
    identities = images.identities
    best = np.zeros(identities, np.float32)
    other = np.full(identities, -1, np.int64)
    nearest = np.full(identities, -1.0, np.float32)
    order = np.argsort(probability, kind="stable")
    for side in (0, 1):
        own, theirs = pairs[order, side], pairs[order, 1 - side]
        higher = probability[order] >= best[own]
        # In ascending order, so the last assignment to an identity is its highest.
        best[own[higher]] = probability[order][higher]
        other[own[higher]] = theirs[higher]
        nearest[own[higher]] = similarity[order][higher]
    into = _merge(images.sizes, pairs, probability)
    return SplitIdentities(best, other, nearest, into)


def _merge(sizes: np.ndarray, pairs: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Merge pairs in order of probability; join two groups only if all pairs between them are
    likely.

    A chain of hard negatives would otherwise become one person. Returns ``into`` int64 ``[K]``.
    """
    likely = np.flatnonzero(probability > 0.5)
    accepted = {tuple(pairs[i]) for i in likely}
    group: dict[int, list[int]] = {}
    for i in likely[np.argsort(-probability[likely], kind="stable")]:
        first, second = (group.setdefault(int(k), [int(k)]) for k in pairs[i])
        if first is second:
            continue
        if all((min(a, b), max(a, b)) in accepted for a in first for b in second):
            first += second
            for identity in second:
                group[identity] = first
    into = np.arange(len(sizes))
    for identity, members in group.items():
        into[identity] = max(members, key=lambda k: (sizes[k], -k))
    return into
