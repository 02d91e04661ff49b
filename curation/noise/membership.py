"""Which images belong to the identity they are labelled with: a probability for each.

Rounds of two steps. *Look*: every image against the trusted others of its identity (``support``),
and, where that leaves a doubt, against the centres of all other identities (``neighbours``).
*Learn*: wrong labels are made by comparing a sample of images with identities they do not belong
to. There are two kinds: people of another identity, who resemble it, and strangers, who resemble
none; sets from the web have many strangers. A likelihood ratio of each kind against the trusted
images, and the prevalence of each kind in the data (``calibration``), give the probability that an
image is misplaced. The next round trusts the image by one minus that probability.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curation.neighbours import Neighbours, blocks
from curation.noise.calibration import LikelihoodRatio, fit_ratio, probabilities, size_class
from curation.noise.embedded import EmbeddedImages
from curation.noise.support import (
    Support,
    centre_of,
    initial_trust,
    support_for,
    support_within,
)
from curation.progress import Progress

SAMPLE = 50_000
"""Images that are compared with strangers' identities, to learn what wrong labels look like"""
ROUNDS = ("within", "others", "others", "others")
STRANGERS = 1
"""Of the two kinds of wrong labels: people of another identity (0), and of none (1)"""
DOUBT = 1e-3
"""Images less probably misplaced than this, by their identity alone, are not searched for others"""
STRANGE = 0.1
"""Share of strangers among wrong labels in ``Membership.doubt``, which estimates no prevalence"""
BLOCK = 65_536
"""Images whose vectors are in memory at a time, where they are searched for"""
OTHERS = 4
_SURELY_IN_PLACE = -20.0
_PAIR = 1.5
"""An image supported by less than this is one of two, by trust"""
_LEAST_SUPPORT = 0.2
"""Identities whose trusted images add up to less are no measure for others"""


@dataclass(frozen=True)
class Membership:
    """What is known of N images and K identities."""

    probability: np.ndarray
    """float32 ``[N]``: of not belonging to its identity; 0 where an identity has one image only"""
    doubt: np.ndarray
    """float32 ``[N]``: the same probability without regard to the quality of the picture"""
    trust: np.ndarray
    """float32 ``[N]``: weight in its identity's centre"""
    support: Support
    """Of each image by its own identity"""
    other: np.ndarray
    """int64 ``[N]``: the most similar other identity; -1 where there was no doubt"""
    other_similarity: np.ndarray
    """float32 ``[N]``: cosine to its centre; -1 where there was no doubt"""
    centres: np.ndarray
    """float32 ``[K, D]``: unit centres of the trusted images"""
    search: Neighbours
    """The index over the centres"""


@dataclass
class _State:
    images: EmbeddedImages
    trust: np.ndarray
    support: Support
    other: np.ndarray
    other_similarity: np.ndarray
    log_ratios: np.ndarray
    """float64 ``[N, 2]``: of each kind of wrong label against in place"""
    log_length: np.ndarray
    """float32 ``[N]``: of embeddings, less the median"""
    probability: np.ndarray


def judge_membership(
    images: EmbeddedImages, seed: int = 0, progress: Progress | None = None
) -> Membership:
    """Judge every image; the same images and seed give the same answer.

    Progress counts passes over the images. Memory is a few numbers an image, one identity's vectors
    at a time, the centres, and a sample.
    """
    random = np.random.default_rng(seed)
    state = _begin(images)
    search = None
    for number, kind in enumerate(ROUNDS):
        if progress is not None:
            progress(number, len(ROUNDS))
        state.support = _support_of_all(images, state.trust)
        if kind == "others":
            search = Neighbours(centres_of(images, state.trust))
        _judge(state, search, _learn(state, search, random))
    doubt = _doubt(state, search, random)
    # Of the last trust, as ``load_membership`` makes them again.
    centres = centres_of(images, state.trust)
    if progress is not None:
        progress(len(ROUNDS), len(ROUNDS))
    return Membership(
        state.probability,
        doubt,
        state.trust,
        state.support,
        state.other,
        state.other_similarity,
        centres,
        Neighbours(centres),
    )


def membership_arrays(membership: Membership) -> dict[str, Any]:
    """What a file keeps of it: all but the centres and their index, which are quickly made."""
    support = membership.support
    return {
        "probability": membership.probability,
        "doubt": membership.doubt,
        "trust": membership.trust,
        "support": np.stack([support.centre, support.nearest, support.images]),
        "other": membership.other,
        "other_similarity": membership.other_similarity,
    }


def load_membership(images: EmbeddedImages, arrays: dict[str, np.ndarray]) -> Membership:
    """From what ``membership_arrays`` kept of the same images.

    ``ValueError`` or ``KeyError`` where they are none of these images.
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
            raise ValueError(f"{name} is of other images")
        if not ((low <= array) & (array <= high)).all():
            raise ValueError(f"{name} cannot be")
    centres = centres_of(images, arrays["trust"])
    return Membership(
        arrays["probability"],
        arrays["doubt"],
        arrays["trust"],
        Support(*arrays["support"]),
        arrays["other"],
        arrays["other_similarity"],
        centres,
        Neighbours(centres),
    )


def trusted_images(images: EmbeddedImages, membership: Membership) -> np.ndarray:
    """Images that surely belong to an identity of at least two: int64, ascending."""
    return np.flatnonzero((membership.trust > 0.5) & (images.sizes[images.labels] > 1))


def centres_of(images: EmbeddedImages, trust: np.ndarray) -> np.ndarray:
    """Unit centres float32 ``[K, D]`` of each identity's trusted images."""
    centres = np.zeros((images.identities, images.dimension), np.float32)
    for identity, which, vectors in identities_of(images):
        centres[identity] = centre_of(vectors, trust[which])
    return centres


def identities_of(images: EmbeddedImages) -> Iterator[tuple[int, slice, np.ndarray]]:
    """Each identity with its images and their vectors; read in long blocks."""
    first = 0
    while first < images.identities:
        end = np.searchsorted(images.offsets, images.offsets[first] + 8192, "right") - 1
        last = int(max(end, first + 1))
        start = int(images.offsets[first])
        block = images.vectors(slice(start, int(images.offsets[last])))
        for identity in range(first, last):
            which = images.images_of(identity)
            yield identity, which, block[which.start - start : which.stop - start]
        first = last


def _begin(images: EmbeddedImages) -> _State:
    trust = np.ones(len(images), np.float32)
    for _, which, vectors in identities_of(images):
        trust[which] = initial_trust(vectors)
    nothing = np.zeros(len(images), np.float32)
    log_length = np.log(np.maximum(images.lengths(), 1e-6))
    return _State(
        images,
        trust,
        Support(nothing, nothing, nothing),
        np.full(len(images), -1, np.int64),
        np.full(len(images), -1.0, np.float32),
        np.zeros((len(images), 2)),
        log_length - np.median(log_length),
        nothing,
    )


def _support_of_all(images: EmbeddedImages, trust: np.ndarray) -> Support:
    found = Support(*(np.zeros(len(images), np.float32) for _ in range(3)))
    for _, which, vectors in identities_of(images):
        if len(vectors) > 1:
            here = support_within(vectors, trust[which])
            found.centre[which] = here.centre
            found.nearest[which] = here.nearest
            found.images[which] = here.images
    return found


def support_features(support: Support, images: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """float64 ``[n, 3 + more]``: the support of ``images [n]``, and further columns ``[n]``."""
    columns = [
        support.centre[images],
        support.nearest[images],
        np.log(support.images[images] + 0.3),
    ]
    return np.column_stack([*columns, *more]).astype(np.float64)


def _clarity(log_length: np.ndarray, support: Support) -> np.ndarray:
    """How good pictures ``[n]`` are: their embeddings' log length, the median of all being 0.

    A bad picture of the right person has a short embedding and little support; a good one with as
    little is a stranger. Of a pair, the better picture is not the more suspicious one: 0.
    """
    return np.where(support.images < _PAIR, 0.0, log_length)


def _learn(
    state: _State,
    search: Neighbours | None,
    random: np.random.Generator,
) -> list[LikelihoodRatio]:
    """The ratios between made wrong labels, of each kind where there is a ``search``, and trusted
    images."""
    images = state.images
    sample = np.sort(random.choice(len(images), min(SAMPLE, len(images)), replace=False))
    strangers = images.labels[random.integers(0, len(images), len(sample))].astype(np.int64)
    vectors = images.vectors(sample)
    as_strangers = support_by(images, state.trust, vectors, strangers)
    own = images.labels[sample]
    usable = (strangers != own) & (as_strangers.images > _LEAST_SUPPORT)
    clarity = _clarity(state.log_length[sample], as_strangers)
    in_place = _trusted(state, sample, as_strangers.centre[usable], search is None)

    def made(*resembling: np.ndarray) -> np.ndarray:
        everyone = np.arange(len(sample))
        return support_features(as_strangers, everyone, clarity, *resembling)[usable]

    if search is None:
        return [fit_ratio(_features(state, sample)[in_place], made())]
    near, which = search.search(vectors, OTHERS)
    sound = _features(state, sample, best_except(near, which, own)[0])[in_place]
    elsewhere = best_except(near, which, own, strangers)[0]
    # Their own people are among the others: by the centre without the image.
    home = np.where(state.support.images[sample] > _LEAST_SUPPORT, state.support.centre[sample], -1)
    return [fit_ratio(sound, made(np.maximum(elsewhere, home))), fit_ratio(sound, made(elsewhere))]


def _features(state: _State, which: np.ndarray, *resembling: np.ndarray) -> np.ndarray:
    """Of images ``[n]`` in their own identities; ``resembling [n]``: cosine to the best other."""
    clarity = _clarity(state.log_length, state.support)[which]
    return support_features(state.support, which, clarity, *resembling)


def _trusted(
    state: _State, sample: np.ndarray, strangers: np.ndarray, without_others: bool
) -> np.ndarray:
    """Which of the sample pass for being in place; at first, who is nearer than strangers are."""
    first_round = not state.probability.any()
    nearest_stranger = np.quantile(strangers, 0.99) if len(strangers) else -1.0
    nearer = state.support.centre[sample] > nearest_stranger
    trusted = nearer if first_round and without_others else state.trust[sample] > 0.5
    return trusted & (state.images.sizes[state.images.labels[sample]] > 1)


def support_by(
    images: EmbeddedImages, trust: np.ndarray, vectors: np.ndarray, identities: np.ndarray
) -> Support:
    """Support of ``vectors [m, D]``, each by the identity ``[m]`` that is said for it."""
    found = Support(*(np.zeros(len(vectors), np.float32) for _ in range(3)))
    order = np.argsort(identities, kind="stable")
    asked, first = np.unique(identities[order], return_index=True)
    for identity, here in zip(asked, np.split(order, first[1:]), strict=True):
        which = images.images_of(int(identity))
        support = support_for(vectors[here], images.vectors(which), trust[which])
        found.centre[here] = support.centre
        found.nearest[here] = support.nearest
        found.images[here] = support.images
    return found


def best_except(
    similarities: np.ndarray, indices: np.ndarray, *excluded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The highest similarity, and whose, of each row without the excluded identities."""
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


def _judge(state: _State, search: Neighbours | None, ratios: list[LikelihoodRatio]) -> None:
    """Set probabilities and trust; with ``search``, look again at the doubtful only."""
    which = np.flatnonzero(state.images.sizes[state.images.labels] > 1)
    if search is None:
        # One ratio for both kinds: without the other identities they cannot be told apart.
        (ratio,) = ratios
        state.log_ratios[which] = ratio(_features(state, which))[:, None]
    else:
        doubtful = which[state.probability[which] > DOUBT]
        _look_for_others(state, search, doubtful)
        features = _features(state, doubtful, state.other_similarity[doubtful])
        state.log_ratios[doubtful] = np.column_stack([ratio(features) for ratio in ratios])
        # Of two images that do not resemble each other, nobody can say which is the stranger.
        of_two = (state.images.sizes == 2)[state.images.labels]
        state.log_ratios[of_two, STRANGERS] = -np.inf
    # The prior is everybody's, the doubtful alone would seem to be wrong more often; identities of
    # about one size share one: small ones are wrong more often.
    images = state.images
    probability = np.zeros(len(images), np.float32)
    probability[which] = probabilities(
        state.log_ratios[which], size_class(images.sizes)[images.labels[which]]
    )
    state.probability = probability
    best = _least_suspicious(state)
    hopeless = (probability[best] > 0.5)[state.images.labels]
    if search is None:
        # Who of them is right, only the others can tell.
        state.trust = np.where(hopeless, state.trust, 1.0 - probability).astype(np.float32)
        return
    state.trust = (1.0 - probability).astype(np.float32)
    anchors = best[probability[best] > 0.5]
    state.trust[anchors] = 1.0
    state.probability[anchors] = 0.5


def _doubt(state: _State, search: Neighbours | None, random: np.random.Generator) -> np.ndarray:
    """Probabilities float32 ``[N]`` of being misplaced that ignore the quality of a picture.

    With it, a picture without a face would pass for a bad picture of the right person.
    """
    images = state.images
    which = np.flatnonzero(images.sizes[images.labels] > 1)
    doubt = np.zeros(len(images), np.float32)
    if search is None or len(which) == 0:
        return doubt
    blind = replace(state, log_length=np.zeros_like(state.log_length))
    little = state.support.centre < np.median(state.support.centre[which]) / 2
    doubtful = which[little[which] | (state.probability[which] > DOUBT)]
    _look_for_others(blind, search, doubtful)
    features = _features(blind, doubtful, blind.other_similarity[doubtful])
    people, strangers = (ratio(features) for ratio in _learn(blind, search, random))
    log_ratio = np.full(len(images), _SURELY_IN_PLACE)
    log_ratio[doubtful] = np.logaddexp(np.log(1 - STRANGE) + people, np.log(STRANGE) + strangers)
    doubt[which] = probabilities(log_ratio[which], size_class(images.sizes)[images.labels[which]])
    return doubt


def _look_for_others(state: _State, search: Neighbours, which: np.ndarray) -> None:
    for block in blocks(len(which), BLOCK):
        here = which[block]
        near, found = search.search(state.images.vectors(here), 2)
        best, whose = best_except(near, found, state.images.labels[here])
        state.other[here], state.other_similarity[here] = whose, best


def _least_suspicious(state: _State) -> np.ndarray:
    """int64 ``[K]``: of each identity the image that stays its measure whatever happens."""
    order = np.lexsort((state.probability, state.images.labels))
    return order[state.images.offsets[:-1]]
