"""Estimates for every image the probability that its label is wrong.

Each round has two steps. *Compare*: every image with the prototype of its identity (``prototypes``)
and, in case of doubt, with the prototypes of all other identities (``neighbours``). *Learn*: label
errors are simulated by comparing a sample of images with wrong identities. There are two kinds:
in-set errors show a person of another identity and resemble it; out-of-set errors, common in sets
from the web, show a person whom the set does not have and resemble no identity. A likelihood ratio
of each kind against the trusted images, and the prevalence of each kind in the data
(``calibration``), give the label-error probability. The next round trusts each image by one minus
that probability.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curation.neighbours import Neighbours, blocks
from curation.noise.calibration import LikelihoodRatio, fit_ratio, probabilities, size_class
from curation.noise.embedded import EmbeddedImages
from curation.noise.identity_prototypes import (
    identities_of,
    prototypes_of,
    similarity_to_identities,
    similarity_to_own,
)
from curation.noise.prototypes import (
    PrototypeSimilarity,
    initial_trust,
)
from curation.progress import Progress

SAMPLE = 50_000
"""Images that are compared with wrong identities, to simulate label errors"""
ROUNDS = ("within", "others", "others", "others")
OUT_OF_SET = 1
"""The column of out-of-set errors; in-set errors have column 0"""
DOUBT = 1e-3
"""Images with a lower probability from their own identity are not compared with others"""
OUT_OF_SET_RATE = 0.1
"""Share of out-of-set errors that ``LabelErrors.quality_blind`` assumes"""
BLOCK = 65_536
"""Images whose vectors are in memory at a time during a search"""
OTHERS = 4
_SURELY_RIGHT = -20.0
_PAIR = 1.5
"""An image compared with a lower weight is one of two, by trust"""
_LEAST_WEIGHT = 0.2
"""Identities with a lower weight are not compared with other images"""


@dataclass(frozen=True)
class LabelErrors:
    """The estimates for N images and K identities."""

    probability: np.ndarray
    """float32 ``[N]``: of a label error; 0 if the identity has a single image"""
    quality_blind: np.ndarray
    """float32 ``[N]``: the same probability, ignoring image quality"""
    trust: np.ndarray
    """float32 ``[N]``: the image's weight in its identity's prototype"""
    similarity: PrototypeSimilarity
    """The similarity of each image to its own identity"""
    candidate: np.ndarray
    """int64 ``[N]``: the relabel candidate, the most similar other identity; -1 without doubt"""
    candidate_similarity: np.ndarray
    """float32 ``[N]``: cosine to the candidate's prototype; -1 without doubt"""
    prototypes: np.ndarray
    """float32 ``[K, D]``, unit"""
    search: Neighbours
    """The index over the prototypes"""


@dataclass
class _Estimate:
    images: EmbeddedImages
    trust: np.ndarray
    similarity: PrototypeSimilarity
    candidate: np.ndarray
    candidate_similarity: np.ndarray
    log_ratios: np.ndarray
    """float64 ``[N, 2]``: of each kind of label error against a correct label"""
    log_length: np.ndarray
    """float32 ``[N]``: log norm of the embeddings, minus the median"""
    probability: np.ndarray


def estimate_label_errors(
    images: EmbeddedImages, seed: int = 0, progress: Progress | None = None
) -> LabelErrors:
    """Estimate the label errors of all images; deterministic for a given seed.

    Progress counts passes over the images. Memory holds a few numbers per image, the vectors of one
    identity at a time, the prototypes, and a sample.
    """
    random = np.random.default_rng(seed)
    state = _begin(images)
    search = None
    for number, kind in enumerate(ROUNDS):
        if progress is not None:
            progress(number, len(ROUNDS))
        state.similarity = similarity_to_own(images, state.trust)
        if kind == "others":
            search = Neighbours(prototypes_of(images, state.trust))
        _judge(state, search, _learn(state, search, random))
    quality_blind = _quality_blind(state, search, random)
    # Based on the final trust, as in ``load_label_errors``.
    prototypes = prototypes_of(images, state.trust)
    if progress is not None:
        progress(len(ROUNDS), len(ROUNDS))
    return LabelErrors(
        state.probability,
        quality_blind,
        state.trust,
        state.similarity,
        state.candidate,
        state.candidate_similarity,
        prototypes,
        Neighbours(prototypes),
    )


def label_error_arrays(label_errors: LabelErrors) -> dict[str, Any]:
    """The arrays to save: all but the prototypes and their index, which are cheap to recompute."""
    found = label_errors.similarity
    return {
        "probability": label_errors.probability,
        "doubt": label_errors.quality_blind,
        "trust": label_errors.trust,
        "support": np.stack([found.prototype, found.nearest, found.weight]),
        "other": label_errors.candidate,
        "other_similarity": label_errors.candidate_similarity,
    }


def load_label_errors(images: EmbeddedImages, arrays: dict[str, np.ndarray]) -> LabelErrors:
    """Restore from ``label_error_arrays`` of the same images.

    Raises ``ValueError`` or ``KeyError`` if the arrays do not fit the images.
    """
    count, most = len(images), images.identities - 1
    for name, shape, kind, (low, high) in (
        *((name, (count,), "<f4", (0, 1)) for name in ("probability", "doubt", "trust")),
        ("support", (3, count), "<f4", (-2, count)),
        ("other", (count,), "<i8", (-1, most)),
        ("other_similarity", (count,), "<f4", (-2, 2)),
    ):
        array = arrays[name]
        if array.shape != shape or array.dtype != kind:
            raise ValueError(f"{name} belongs to other images")
        if not ((low <= array) & (array <= high)).all():
            raise ValueError(f"{name} has impossible values")
    prototypes = prototypes_of(images, arrays["trust"])
    return LabelErrors(
        arrays["probability"],
        arrays["doubt"],
        arrays["trust"],
        PrototypeSimilarity(*arrays["support"]),
        arrays["other"],
        arrays["other_similarity"],
        prototypes,
        Neighbours(prototypes),
    )


def trusted_images(images: EmbeddedImages, label_errors: LabelErrors) -> np.ndarray:
    """Images with a trusted label in an identity of at least two: int64, ascending."""
    return np.flatnonzero((label_errors.trust > 0.5) & (images.sizes[images.labels] > 1))


def _begin(images: EmbeddedImages) -> _Estimate:
    trust = np.ones(len(images), np.float32)
    for _, which, vectors in identities_of(images):
        trust[which] = initial_trust(vectors)
    nothing = np.zeros(len(images), np.float32)
    log_length = np.log(np.maximum(images.lengths(), 1e-6))
    return _Estimate(
        images,
        trust,
        PrototypeSimilarity(nothing, nothing, nothing),
        np.full(len(images), -1, np.int64),
        np.full(len(images), -1.0, np.float32),
        np.zeros((len(images), 2)),
        log_length - np.median(log_length),
        nothing,
    )


def similarity_features(
    similarity: PrototypeSimilarity, images: np.ndarray, *more: np.ndarray
) -> np.ndarray:
    """float64 ``[n, 3 + more]``: the similarity of ``images [n]``, and additional
    columns ``[n]``.
    """
    columns = [
        similarity.prototype[images],
        similarity.nearest[images],
        np.log(similarity.weight[images] + 0.3),
    ]
    return np.column_stack([*columns, *more]).astype(np.float64)


def _quality(log_length: np.ndarray, similarity: PrototypeSimilarity) -> np.ndarray:
    """Image quality ``[n]``: the centred log norm of the embeddings.

    A bad image of the right person has a short embedding and a low similarity; a good image with a
    similarity as low is a label error. In a pair, the better image is not more suspicious, so
    quality is 0 there.
    """
    return np.where(similarity.weight < _PAIR, 0.0, log_length)


def _learn(
    state: _Estimate,
    search: Neighbours | None,
    random: np.random.Generator,
) -> list[LikelihoodRatio]:
    """Fit ratios of simulated label errors to trusted images; with a ``search``, one per kind."""
    images = state.images
    sample = np.sort(random.choice(len(images), min(SAMPLE, len(images)), replace=False))
    wrong = images.labels[random.integers(0, len(images), len(sample))].astype(np.int64)
    vectors = images.vectors(sample)
    mislabelled = similarity_to_identities(images, state.trust, vectors, wrong)
    own = images.labels[sample]
    usable = (wrong != own) & (mislabelled.weight > _LEAST_WEIGHT)
    quality = _quality(state.log_length[sample], mislabelled)
    right = _trusted(state, sample, mislabelled.prototype[usable], search is None)

    def simulated(*rivals: np.ndarray) -> np.ndarray:
        everyone = np.arange(len(sample))
        return similarity_features(mislabelled, everyone, quality, *rivals)[usable]

    if search is None:
        return [fit_ratio(_features(state, sample)[right], simulated())]
    near, which = search.search(vectors, OTHERS)
    sound = _features(state, sample, best_except(near, which, own)[0])[right]
    out_of_set = best_except(near, which, own, wrong)[0]
    # For in-set errors, the true identity is a rival too; its prototype excludes the image.
    similarity = state.similarity
    true = np.where(similarity.weight[sample] > _LEAST_WEIGHT, similarity.prototype[sample], -1)
    in_set = np.maximum(out_of_set, true)
    return [fit_ratio(sound, simulated(in_set)), fit_ratio(sound, simulated(out_of_set))]


def _features(state: _Estimate, which: np.ndarray, *rivals: np.ndarray) -> np.ndarray:
    """Features of images ``[n]`` in their own identities; ``rivals [n]`` are the best other
    cosines.
    """
    quality = _quality(state.log_length, state.similarity)[which]
    return similarity_features(state.similarity, which, quality, *rivals)


def _trusted(
    state: _Estimate, sample: np.ndarray, mislabelled: np.ndarray, without_others: bool
) -> np.ndarray:
    """Which of the sample count as correctly labelled.

    In the first round, those closer to their identity than simulated errors are.
    """
    first_round = not state.probability.any()
    nearest_wrong = np.quantile(mislabelled, 0.99) if len(mislabelled) else -1.0
    nearer = state.similarity.prototype[sample] > nearest_wrong
    trusted = nearer if first_round and without_others else state.trust[sample] > 0.5
    return trusted & (state.images.sizes[state.images.labels[sample]] > 1)


def best_except(
    similarities: np.ndarray, indices: np.ndarray, *excluded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The highest similarity in each row, float32 ``[n]``, and its identity, int64 ``[n]``.

    ``similarities`` and ``indices`` ``[n, k]`` are search results, -1 for no identity; each of
    ``excluded`` ``[n]`` has an identity for each row to ignore. A row without others has -1, -1.
    """
    allowed = indices >= 0
    for identities in excluded:
        allowed &= indices != identities[:, None]
    best = np.where(allowed, similarities, -2.0).argmax(axis=1)
    row = np.arange(len(indices))
    there = allowed[row, best]
    return (
        np.where(there, similarities[row, best], -1.0).astype(np.float32),
        np.where(there, indices[row, best], -1),
    )


def _judge(state: _Estimate, search: Neighbours | None, ratios: list[LikelihoodRatio]) -> None:
    """Update probabilities and trust; with a ``search``, only those of doubtful images."""
    which = np.flatnonzero(state.images.sizes[state.images.labels] > 1)
    if search is None:
        # A single ratio: only other identities distinguish the two kinds.
        (ratio,) = ratios
        state.log_ratios[which] = ratio(_features(state, which))[:, None]
    else:
        doubtful = which[state.probability[which] > DOUBT]
        _find_candidates(state, search, doubtful)
        features = _features(state, doubtful, state.candidate_similarity[doubtful])
        state.log_ratios[doubtful] = np.column_stack([ratio(features) for ratio in ratios])
        # If two images do not resemble each other, either may be the wrong one.
        of_two = (state.images.sizes == 2)[state.images.labels]
        state.log_ratios[of_two, OUT_OF_SET] = -np.inf
    # The prior covers all images, because doubtful ones are wrong more often. It is shared by
    # identities of similar size, because small ones are wrong more often.
    images = state.images
    probability = np.zeros(len(images), np.float32)
    probability[which] = probabilities(
        state.log_ratios[which], size_class(images.sizes)[images.labels[which]]
    )
    state.probability = probability
    best = _least_suspicious(state)
    hopeless = (probability[best] > 0.5)[state.images.labels]
    if search is None:
        # Only other identities reveal which of its images are correct.
        state.trust = np.where(hopeless, state.trust, 1.0 - probability).astype(np.float32)
        return
    state.trust = (1.0 - probability).astype(np.float32)
    anchors = best[probability[best] > 0.5]
    state.trust[anchors] = 1.0
    state.probability[anchors] = 0.5


def _quality_blind(
    state: _Estimate, search: Neighbours | None, random: np.random.Generator
) -> np.ndarray:
    """Label-error probabilities float32 ``[N]`` that ignore image quality.

    With the quality, an image without a face would count as a bad image of the right person.
    """
    images = state.images
    which = np.flatnonzero(images.sizes[images.labels] > 1)
    probability = np.zeros(len(images), np.float32)
    if search is None or len(which) == 0:
        return probability
    blind = replace(state, log_length=np.zeros_like(state.log_length))
    little = state.similarity.prototype < np.median(state.similarity.prototype[which]) / 2
    doubtful = which[little[which] | (state.probability[which] > DOUBT)]
    _find_candidates(blind, search, doubtful)
    features = _features(blind, doubtful, blind.candidate_similarity[doubtful])
    in_set, out_of_set = (ratio(features) for ratio in _learn(blind, search, random))
    log_ratio = np.full(len(images), _SURELY_RIGHT)
    rate = np.log([1 - OUT_OF_SET_RATE, OUT_OF_SET_RATE])
    log_ratio[doubtful] = np.logaddexp(rate[0] + in_set, rate[1] + out_of_set)
    classes = size_class(images.sizes)[images.labels[which]]
    probability[which] = probabilities(log_ratio[which], classes)
    return probability


def _find_candidates(state: _Estimate, search: Neighbours, which: np.ndarray) -> None:
    for block in blocks(len(which), BLOCK):
        here = which[block]
        near, found = search.search(state.images.vectors(here), 2)
        best, whose = best_except(near, found, state.images.labels[here])
        state.candidate[here], state.candidate_similarity[here] = whose, best


def _least_suspicious(state: _Estimate) -> np.ndarray:
    """int64 ``[K]``: the least suspicious image of each identity, which always anchors it."""
    order = np.lexsort((state.probability, state.images.labels))
    return order[state.images.offsets[:-1]]
