"""Support within an identity, against loops over its images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_people import people

from curation.neighbours import normalised
from curation.noise import support
from curation.noise.support import centre_of, initial_trust, support_for, support_within

NEAR = {"rtol": 1e-4, "atol": 1e-5}
SHAPES = st.tuples(st.integers(1, 12), st.integers(0, 999))


def unit_vectors(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ``[count, 5]`` and trust in them."""
    random = np.random.default_rng(seed)
    trust = random.uniform(0.05, 1, count).astype(np.float32)
    return normalised(random.normal(size=(count, 5))), trust


def slow_support(
    image: np.ndarray, others: np.ndarray, trust: np.ndarray
) -> tuple[float, float, float]:
    """By definition: cosine to the weighed mean of the others, mean of the three best, weight."""
    if len(others) == 0:
        return 0.0, 0.0, 0.0
    total = sum(weight * other for weight, other in zip(trust, others, strict=True))
    best = sorted((weight * float(image @ v) for weight, v in zip(trust, others, strict=True)))[-3:]
    return float(image @ total) / np.linalg.norm(total), float(np.mean(best)), float(trust.sum())


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_an_image_is_compared_with_the_others_and_never_with_itself(shape: tuple[int, int]) -> None:
    vectors, trust = unit_vectors(*shape)
    found = support_within(vectors, trust)
    for i in range(len(vectors)):
        others = np.arange(len(vectors)) != i
        centre, nearest, images = slow_support(vectors[i], vectors[others], trust[others])
        np.testing.assert_allclose(found.centre[i], centre, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.nearest[i], nearest, **NEAR)
        np.testing.assert_allclose(found.images[i], images, **NEAR)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(1, 6))
def test_a_stranger_is_compared_with_all_of_an_identity(shape: tuple[int, int], m: int) -> None:
    vectors, trust = unit_vectors(*shape)
    strangers = unit_vectors(m, 1 + shape[1])[0]
    found = support_for(strangers, vectors, trust)
    slow = np.array([slow_support(stranger, vectors, trust) for stranger in strangers]).T
    np.testing.assert_allclose([found.centre, found.nearest], slow[:2], **NEAR)


def test_strangers_are_told_as_many_others_as_an_image_of_the_identity_has() -> None:
    """Or else their number would tell strangers from members, where all sizes are equal."""
    vectors, _ = people([7])
    trust = np.ones(7, np.float32)
    members = support_within(vectors, trust).images
    np.testing.assert_allclose(support_for(vectors[:2], vectors, trust).images, members[:2])


def test_leaving_an_image_out_is_the_same_as_asking_for_a_stranger() -> None:
    vectors, _ = people([20])
    trust = np.linspace(0.1, 1, 20).astype(np.float32)
    left_out = support_for(vectors[:1], vectors[1:], trust[1:])
    within = support_within(vectors, trust)
    np.testing.assert_allclose(within.centre[0], left_out.centre[0], **NEAR)
    np.testing.assert_allclose(within.nearest[0], left_out.nearest[0], **NEAR)


def test_large_identities_are_compared_in_blocks_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, _ = people([37])
    trust = np.ones(37, np.float32)
    whole = support_within(vectors, trust)
    for size in (1, 7, 36, 37, 38):
        monkeypatch.setattr(support, "_LARGEST_SQUARE", size)
        np.testing.assert_allclose(support_within(vectors, trust).nearest, whole.nearest, **NEAR)


def test_only_images_have_no_support_and_pairs_have_each_other() -> None:
    vectors, _ = people([2])
    alone = support_within(vectors[:1], np.ones(1, np.float32))
    assert (alone.centre[0], alone.nearest[0], alone.images[0]) == (0, 0, 0)
    pair = support_within(vectors, np.ones(2, np.float32))
    np.testing.assert_allclose(pair.centre, float(vectors[0] @ vectors[1]), **NEAR)
    np.testing.assert_array_equal(pair.images, 1)


def test_untrusted_images_neither_move_the_centre_nor_vouch() -> None:
    vectors, person = people([10, 10])
    trust = (person == 0).astype(np.float32)
    mixed = support_within(vectors, trust)
    np.testing.assert_allclose(mixed.centre[:10], support_within(vectors[:10], trust[:10]).centre,
                               **NEAR)  # fmt: skip
    assert mixed.nearest[10:].max() < 0.5


def test_a_centre_is_of_length_one_or_zero_where_nobody_is_trusted() -> None:
    vectors, _ = people([9])
    assert np.linalg.norm(centre_of(vectors, np.ones(9, np.float32))) == pytest.approx(1)
    assert not centre_of(vectors, np.zeros(9, np.float32)).any()


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
    monkeypatch.setattr(support, "_LARGEST_SQUARE", 32)
    trust = initial_trust(vectors)
    assert trust[person == 0].min() > trust[person > 0].max()


@pytest.mark.parametrize("vectors", [np.zeros((5, 4)), np.eye(5), np.ones((5, 4)) / 2])
def test_trust_is_finite_where_images_have_nothing_or_everything_in_common(
    vectors: np.ndarray,
) -> None:
    trust = initial_trust(vectors.astype(np.float32))
    assert np.isfinite(trust).all()
    assert ((trust >= 0) & (trust <= 1)).all()
