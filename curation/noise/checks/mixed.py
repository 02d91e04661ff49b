"""Identities that mix two or more people, and how to split them.

Images that resemble no other of their identity are ignored: they are single label errors. The rest
is split into its best bipartition (spherical 2-means), and each part once more. Two halves of one
person resemble each other; two people do not. With three people, the first bipartition leaves two
of them in one part, which blurs the evidence; splitting that part again reveals it. The
distribution for two people under one label is learned by merging pairs of identities; see
``calibration``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curation.neighbours import blocks, normalised
from curation.noise.calibration import LikelihoodRatio, fit_most, probabilities, size_class
from curation.noise.check import FLAG, Context, Fates, NoiseCheck, check
from curation.noise.checks.misplaced import is_moved
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, FindingsMeta, require_indices
from curation.noise.identity_prototypes import identities_of
from curation.noise.label_errors import LabelErrors
from curation.noise.presentation import Evidence, Explanation, ScoredSubject, ShownRow
from curation.noise.prototypes import initial_trust, prototype_of, similarity_within
from curation.progress import Progress
from curation.wording import capital, counted, decimal

SMALLEST = 4
CHANCE_PAIRS = 100_000
SYNTHETIC = 5_000
"""Pairs of identities merged to learn from"""
MANY = 8
FURTHER = 0.1
"""Assumed share of mixtures among the parts of a mixed identity"""
_MOST_PEOPLE = 8
MOST_PARTS = 6
"""Rows of an identity in the report"""
_LARGEST_SAMPLE = 512
_STEPS = 8


@check(
    "mixed",
    "identity",
    order=20,
    precedence=40,
    explanation=Explanation(
        "Identities that mix several people",
        "The images of one label fall into parts that are as dissimilar as different people.",
        "Each row is one part: is it another person, or the same one with glasses, at another age "
        "or in another light?",
        "Each further part becomes an identity of its own.",
    ),
)
class Mixed(NoiseCheck):
    """Two or more people under one identity.

    They are split before single images are judged misplaced: a second person is not noise.
    """

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Evidence: parts, smaller (images in the smallest part), between (cosine between the
        centres of the first two parts). Of images: part, the proposed new identity within its
        identity.
        """
        found = find_mixed(context.embedded, context.label_errors)
        flagged = found.probability > FLAG
        identities = context.embedded.identities
        parts, smaller = np.ones(identities, np.int64), np.zeros(identities, np.int64)
        for identity in np.flatnonzero(flagged):
            counts = np.bincount(found.part[context.embedded.images_of(int(identity))])
            parts[identity], smaller[identity] = len(counts), counts.min()
        people = f", {parts[flagged].sum():,} in all" if flagged.any() else ""
        return self.finding(
            found.probability,
            {"parts": parts, "smaller": smaller, "between": found.between},
            f"{flagged.sum():,} of {identities:,} identities mix several people{people}",
            images={"part": found.part},
        )

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        require_indices(finding, "parts")
        require_indices(finding, "smaller")

    def propose(self, finding: Finding, fates: Fates) -> Iterator[Decision]:
        """Make new identities of all parts but the largest, except for relabelled images."""
        misplaced = fates.findings.get("misplaced")
        for identity in np.flatnonzero(finding.flagged & ~fates.gone).tolist():
            which = fates.images.images_of(identity)
            score, note = float(finding.scores[identity]), finding.evidence["parts"][identity]
            for image in range(which.start, which.stop):
                part = int(finding.images["part"][image])
                if part == 0 or fates.settled[image] or is_moved(misplaced, image):
                    continue
                fates.settled[image] = True
                yield Decision("split", identity, image, part, score=score, note=f"{note} people")

    def propose_one(self, one: ScoredSubject) -> list[Decision]:
        part = one.finding.images.get("part")
        if part is None:
            return []
        images = one.members(one.index)
        leaving = images[part[images] > 0].tolist()
        return [Decision("split", one.index, image, int(part[image])) for image in leaving]

    def evidence(self, one: ScoredSubject) -> Evidence:
        images = one.members(one.index)
        part = one.finding.images.get("part")
        parts = np.zeros(len(images), int) if part is None else part[images]
        rows, values = [], np.unique(parts)
        for value in values[:MOST_PARTS]:
            members = images[parts == value]
            what = "Stays" if value == 0 else f"New identity {value}"
            rows.append(ShownRow(f"{what}: {counted(len(members), 'image')}", members))
        people = counted(one.named("parts"), "person").replace("persons", "people")
        reason = (
            f"Looks like {people}; similarity {decimal(one.number('between'))} between the parts' "
            f"centres, {counted(one.named('smaller'), 'image')} in the smaller part."
        )
        if len(values) > MOST_PARTS:
            reason += f" {counted(len(values) - MOST_PARTS, 'further part')} not shown."
        return Evidence(capital(one.name(one.index)), reason, (), tuple(rows))


@dataclass(frozen=True)
class Bipartition:
    """An identity split in two parts."""

    second: np.ndarray
    """bool ``[n]``: the images of the smaller part"""
    between: float
    """Cosine between the parts' centres"""
    within: tuple[float, float]
    """Mean cosine of the images of the larger and the smaller part to the other images of their
    part
    """

    @property
    def sizes(self) -> tuple[int, int]:
        """Images of the larger and the smaller part."""
        smaller = int(self.second.sum())
        return len(self.second) - smaller, smaller

    @property
    def features(self) -> list[float]:
        """Features of the fit.

        Counts are capped, or the largest identities would be judged by size.
        """
        return [self.between, *self.within, *np.log(np.minimum(self.sizes, MANY))]


@dataclass(frozen=True)
class Mixture:
    """The result for K identities and N images."""

    probability: np.ndarray
    """float32 ``[K]``: of two or more people"""
    between: np.ndarray
    """float32 ``[K]``: cosine between the two parts' centres; NaN without a bipartition"""
    part: np.ndarray
    """int16 ``[N]``: 0 stays; 1, 2, ... are the proposed new identities within each identity"""


def find_mixed(images: EmbeddedImages, label_errors: LabelErrors, seed: int = 0) -> Mixture:
    """Judge every identity of at least four images.

    Proposes parts if more than one person is more likely than not.
    """
    random = np.random.default_rng(seed)
    identities: list[int] = []
    bipartitions: list[list[list[float]]] = []
    chance = _cosine_by_chance(images, random)
    for identity, _, vectors in identities_of(images):
        found = [one.features for one in _bipartitions(vectors[has_company(vectors, chance)])]
        if found:
            identities.append(identity)
            bipartitions.append(found)
    probability = np.zeros(images.identities, np.float32)
    between = np.full(images.identities, np.nan, np.float32)
    part = np.zeros(len(images), np.int16)
    synthetic = list(_synthetic_mixtures(images, label_errors, random))
    if identities and synthetic:
        features, known = np.array([found[0] for found in bipartitions]), np.array(synthetic)
        between[identities] = features[:, 0]
        ratio, _ = fit_most(features, known, features[:, 0], _groups(features), _groups(known))
        log_ratios = [_of_any(ratio(np.array(found))) for found in bipartitions]
        probability[identities] = probabilities(np.array(log_ratios))
        for identity in np.flatnonzero(probability > 0.5).tolist():
            which = images.images_of(identity)
            part[which] = _parts(images.vectors(which), ratio, chance)
    return Mixture(probability, between, part)


def _bipartitions(vectors: np.ndarray) -> Iterator[Bipartition]:
    """The best two parts of ``[n, D]``, and of each of them."""
    whole = bipartition(vectors)
    if whole is None:
        return
    yield whole
    for part in (~whole.second, whole.second):
        within = bipartition(vectors[part])
        if within is not None:
            yield within


def _of_any(log_ratios: np.ndarray) -> float:
    """The log-ratio that at least one bipartition ``[n]`` of an identity separates two people.

    The bipartition of the whole identity comes first.
    """
    share = np.where(np.arange(len(log_ratios)) == 0, 1 - FURTHER, FURTHER)
    none = np.log1p(-share).sum()
    # Includes the case of none.
    some = np.logaddexp(np.log1p(-share), np.log(share) + log_ratios).sum()
    return float(some + np.log1p(-np.exp(none - some)) - np.log1p(-np.exp(none)))


def _groups(features: np.ndarray) -> np.ndarray:
    """Size classes of the smaller part."""
    return size_class(np.exp(features[:, -1]))


def bipartition(vectors: np.ndarray) -> Bipartition | None:
    """The best two parts of unit vectors ``[n, D]`` with at least two images each, or None.

    Returns the better of two attempts. The first starts from the densest cluster and the images
    outside it that resemble each other, which finds few among many. The second starts from the two
    least similar images, which separates clusters of equal size.
    """
    if len(vectors) < SMALLEST:
        return None
    attempts = [_two_means(vectors, *start) for start in (_dense(vectors), _distant(vectors))]
    found = [one for one in attempts if one is not None]
    if not found:
        return None
    lengths = [sum(_length(vectors[part]) for part in (second, ~second)) for second in found]
    second = found[int(np.argmax(lengths))]
    if second.sum() * 2 > len(vectors):
        second = ~second
    centres = [normalised(vectors[part].sum(axis=0)) for part in (~second, second)]
    within = (_cohesion(vectors[~second]), _cohesion(vectors[second]))
    return Bipartition(second, float(centres[0] @ centres[1]), within)


def _dense(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = prototype_of(vectors, initial_trust(vectors))
    away = 1.0 - vectors @ first
    rest = vectors - (vectors @ first)[:, None] * first
    weight = initial_trust(normalised(rest)) * np.maximum(away - np.median(away), 0.0)
    return first, prototype_of(vectors, weight)


def _distant(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = vectors[int((vectors @ vectors.sum(axis=0)).argmin())]
    return first, vectors[int((vectors @ first).argmin())]


def _two_means(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """bool ``[n]``: the images that end up nearer to the second centre; None if a side has fewer
    than two.
    """
    is_second = np.zeros(len(vectors), bool)
    for _ in range(_STEPS):
        nearer = vectors @ second > vectors @ first
        if nearer.sum() < 2 or (~nearer).sum() < 2:
            return None
        if (nearer == is_second).all():
            break
        is_second = nearer
        first, second = (normalised(vectors[mask].sum(axis=0)) for mask in (~nearer, nearer))
    return is_second


def _length(vectors: np.ndarray) -> float:
    """The norm of the sum, equal to the sum of cosines to the centre, which 2-means maximises."""
    return float(np.linalg.norm(vectors.sum(axis=0)))


def _cohesion(vectors: np.ndarray) -> float:
    return float(similarity_within(vectors, np.ones(len(vectors), np.float32)).prototype.mean())


def has_company(vectors: np.ndarray, chance: float) -> np.ndarray:
    """bool ``[n]``: which of ``[n, D]`` have a higher cosine than ``chance`` to another of them."""
    company = np.zeros(len(vectors), bool)
    for block in blocks(len(vectors), 2048):
        cosines = vectors[block] @ vectors.T
        here = np.arange(block.start, block.stop)
        cosines[here - block.start, here] = -1.0
        company[block] = cosines.max(axis=1, initial=-1.0) > chance
    return company


def _cosine_by_chance(images: EmbeddedImages, random: np.random.Generator) -> float:
    """The cosine that one in a thousand pairs of images of different people exceeds."""
    pairs = np.sort(random.integers(0, len(images), (CHANCE_PAIRS, 2)), axis=0)
    random.shuffle(pairs[:, 1])
    pairs = pairs[images.labels[pairs[:, 0]] != images.labels[pairs[:, 1]]]
    if len(pairs) == 0:
        return 1.0
    cosines = [
        np.einsum("nd,nd->n", images.vectors(pairs[block, 0]), images.vectors(pairs[block, 1]))
        for block in blocks(len(pairs), 4096)
    ]
    return float(np.quantile(np.concatenate(cosines), 0.999))


def _synthetic_mixtures(
    images: EmbeddedImages, label_errors: LabelErrors, random: np.random.Generator
) -> Iterator[list[float]]:
    """Features of merged pairs of identities, from trusted images."""
    large = np.flatnonzero(images.sizes >= 2)
    if len(large) < 2:
        return
    for first, second in random.choice(large, (min(SYNTHETIC, 5 * len(large)), 2)):
        one, other = (_sound_vectors(images, label_errors, int(i), random) for i in (first, second))
        if first == second or min(len(one), len(other)) < 2:
            continue
        # Few as often as many: real mixtures come in all sizes.
        count = int(np.exp(random.uniform(np.log(2), np.log(len(other) + 1))))
        found = bipartition(np.concatenate([one, random.permutation(other)[:count]]))
        if found is not None:
            yield found.features


def _sound_vectors(
    images: EmbeddedImages, label_errors: LabelErrors, identity: int, random: np.random.Generator
) -> np.ndarray:
    which = images.images_of(identity)
    trusted = np.arange(which.start, which.stop)[label_errors.trust[which] > 0.5]
    if len(trusted) > _LARGEST_SAMPLE:
        trusted = np.sort(random.choice(trusted, _LARGEST_SAMPLE, replace=False))
    return images.vectors(trusted)


def _parts(vectors: np.ndarray, ratio: LikelihoodRatio, chance: float) -> np.ndarray:
    """Part numbers int16 ``[n]``; a part is split again if it is probably a mixture.

    Images that resemble their part no more than at random stay: single label errors do not show the
    second person either.
    """
    part = np.zeros(len(vectors), np.int16)
    edge = np.log(1 / FURTHER - 1)
    waiting = [np.flatnonzero(has_company(vectors, chance))]
    while waiting and part.max() + 1 < _MOST_PEOPLE:
        here = waiting.pop()
        found = bipartition(vectors[here])
        if found is not None and (part.max() == 0 or ratio(np.array([found.features]))[0] > edge):
            part[here[found.second]] = part.max() + 1
            waiting += [here[~found.second], here[found.second]]
    for number in range(1, int(part.max()) + 1):
        here = np.flatnonzero(part == number)
        within = similarity_within(vectors[here], np.ones(len(here), np.float32))
        part[here[within.prototype < chance]] = 0
    return part
