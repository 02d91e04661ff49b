"""Similarity to an identity's prototype, against loops over its images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_people import people

from curation.neighbours import normalised
from curation.noise import prototypes
from curation.noise.prototypes import (
    initial_trust,
    prototype_of,
    similarity_of_outsiders,
    similarity_within,
)

NEAR = {"rtol": 1e-4, "atol": 1e-5}
SHAPES = st.tuples(st.integers(1, 12), st.integers(0, 999))


def unit_vectors(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ``[count, 5]`` and trust in them."""
    random = np.random.default_rng(seed)
    trust = random.uniform(0.05, 1, count).astype(np.float32)
    return normalised(random.normal(size=(count, 5))), trust


def slow_similarity(
    image: np.ndarray, others: np.ndarray, trust: np.ndarray
) -> tuple[float, float, float]:
    """By definition: cosine to the weighted mean of the others, mean of the best three, weight."""
    if len(others) == 0:
        return 0.0, 0.0, 0.0
    total = sum(weight * other for weight, other in zip(trust, others, strict=True))
    best = sorted((weight * float(image @ v) for weight, v in zip(trust, others, strict=True)))[-3:]
    return float(image @ total) / np.linalg.norm(total), float(np.mean(best)), float(trust.sum())


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_an_image_is_never_compared_with_itself(shape: tuple[int, int]) -> None:
    vectors, trust = unit_vectors(*shape)
    found = similarity_within(vectors, trust)
    for i in range(len(vectors)):
        others = np.arange(len(vectors)) != i
        prototype, nearest, weight = slow_similarity(vectors[i], vectors[others], trust[others])
        np.testing.assert_allclose(found.prototype[i], prototype, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.nearest[i], nearest, **NEAR)
        np.testing.assert_allclose(found.weight[i], weight, **NEAR)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(1, 6))
def test_an_outsider_is_compared_with_all_of_an_identity(shape: tuple[int, int], m: int) -> None:
    vectors, trust = unit_vectors(*shape)
    outsiders = unit_vectors(m, 1 + shape[1])[0]
    found = similarity_of_outsiders(outsiders, vectors, trust)
    slow = np.array([slow_similarity(outsider, vectors, trust) for outsider in outsiders]).T
    np.testing.assert_allclose([found.prototype, found.nearest], slow[:2], **NEAR)


def test_outsiders_have_the_weight_of_a_member() -> None:
    """Otherwise the weight alone would separate them from members if all sizes are equal."""
    vectors, _ = people([7])
    trust = np.ones(7, np.float32)
    members = similarity_within(vectors, trust).weight
    np.testing.assert_allclose(
        similarity_of_outsiders(vectors[:2], vectors, trust).weight, members[:2]
    )


def test_a_held_out_image_is_compared_like_an_outsider() -> None:
    vectors, _ = people([20])
    trust = np.linspace(0.1, 1, 20).astype(np.float32)
    left_out = similarity_of_outsiders(vectors[:1], vectors[1:], trust[1:])
    within = similarity_within(vectors, trust)
    np.testing.assert_allclose(within.prototype[0], left_out.prototype[0], **NEAR)
    np.testing.assert_allclose(within.nearest[0], left_out.nearest[0], **NEAR)


def test_large_identities_are_compared_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, _ = people([37])
    trust = np.ones(37, np.float32)
    whole = similarity_within(vectors, trust)
    for size in (1, 7, 36, 37, 38):
        monkeypatch.setattr(prototypes, "_LARGEST_SQUARE", size)
        np.testing.assert_allclose(similarity_within(vectors, trust).nearest, whole.nearest, **NEAR)


def test_single_images_have_no_similarity_pairs_only_each_other() -> None:
    vectors, _ = people([2])
    alone = similarity_within(vectors[:1], np.ones(1, np.float32))
    assert (alone.prototype[0], alone.nearest[0], alone.weight[0]) == (0, 0, 0)
    pair = similarity_within(vectors, np.ones(2, np.float32))
    np.testing.assert_allclose(pair.prototype, float(vectors[0] @ vectors[1]), **NEAR)
    np.testing.assert_array_equal(pair.weight, 1)


def test_untrusted_images_have_no_influence() -> None:
    vectors, person = people([10, 10])
    trust = (person == 0).astype(np.float32)
    mixed = similarity_within(vectors, trust)
    trusted = similarity_within(vectors[:10], trust[:10])
    np.testing.assert_allclose(mixed.prototype[:10], trusted.prototype, **NEAR)
    assert mixed.nearest[10:].max() < 0.5


def test_a_prototype_has_length_one_or_zero_without_trust() -> None:
    vectors, _ = people([9])
    assert np.linalg.norm(prototype_of(vectors, np.ones(9, np.float32))) == pytest.approx(1)
    assert not prototype_of(vectors, np.zeros(9, np.float32)).any()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_trust_begins_with_the_majority(share: float) -> None:
    right, wrong = round(40 * (1 - share)), round(40 * share)
    vectors, person = people([right, *[1] * wrong])
    trust = initial_trust(vectors)
    assert trust.max() == pytest.approx(1)
    assert trust[person == 0].min() > 2 * trust[person > 0].max()


def test_the_larger_of_two_people_is_trusted() -> None:
    vectors, person = people([12, 8])
    trust = initial_trust(vectors)
    assert trust[person == 0].min() > trust[person == 1].max()


def test_huge_identities_are_judged_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, person = people([80, *[1] * 20])
    monkeypatch.setattr(prototypes, "_LARGEST_SQUARE", 32)
    trust = initial_trust(vectors)
    assert trust[person == 0].min() > trust[person > 0].max()


@pytest.mark.parametrize("vectors", [np.zeros((5, 4)), np.eye(5), np.ones((5, 4)) / 2])
def test_trust_is_finite_for_orthogonal_or_equal_images(
    vectors: np.ndarray,
) -> None:
    trust = initial_trust(vectors.astype(np.float32))
    assert np.isfinite(trust).all()
    assert ((trust >= 0) & (trust <= 1)).all()
