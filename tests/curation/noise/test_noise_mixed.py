"""Two people under one identity are found and split; single wrong images are not a
second person.
"""

import numpy as np
import pytest
from simulated_people import embedded, f1, in_order, people, wrongly_labelled

from curation.noise.checks.mixed import Mixture, bipartition, find_mixed, has_company
from curation.noise.label_errors import estimate_label_errors

OTHERS = [4, 6, 9, 14, 20] * 18
"""Images of the identities that show one person each"""
MIXED = 8
"""Identities 0 to 7 show two people in the following tests"""


def judge(vectors: np.ndarray, labels: np.ndarray) -> Mixture:
    images = embedded(vectors, labels)
    return find_mixed(images, estimate_label_errors(images))


def merged(sizes: list[int], groups: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, labels and people, with one label per group of people."""
    vectors, person = people(sizes)
    label_of = np.arange(len(sizes))
    for group in groups:
        label_of[group] = min(group)
    order, labels = in_order(label_of[person])
    return vectors[order], labels, person[order]


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether both group the same images together."""
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))


def test_two_people_are_found_and_split_exactly() -> None:
    pairs = [[2 * k, 2 * k + 1] for k in range(MIXED)]
    vectors, labels, person = merged([9, 5] * MIXED + OTHERS, pairs)
    found = judge(vectors, labels)
    np.testing.assert_array_equal(np.flatnonzero(found.probability > 0.5), np.arange(MIXED))
    for identity in range(MIXED):
        here = labels == identity
        assert same_partition(found.part[here], person[here])
        assert (found.part[here][person[here] == 2 * identity] == 0).all()  # the larger part stays
    assert not found.part[labels >= MIXED].any()
    assert np.nanmax(found.between[:MIXED]) < np.nanmin(found.between[MIXED:])


def test_three_people_become_three_parts() -> None:
    vectors, labels, person = merged([12, 8, 6, *OTHERS], [[0, 1, 2]])
    found = judge(vectors, labels)
    assert found.probability[0] > 0.5
    assert set(found.part[labels == 0].tolist()) == {0, 1, 2}
    assert same_partition(found.part[labels == 0], person[labels == 0])


@pytest.mark.parametrize("sizes", [[4, 2, 2], [3, 3, 3], [2, 2, 2, 2], [12, 4, 3], [5, 4, 4, 3, 3]])
def test_a_single_identity_of_several_people_is_found_and_split(sizes: list[int]) -> None:
    """The first bipartition leaves several people in a half; bipartitions of the halves tell."""
    vectors, labels, person = merged([*sizes, *OTHERS], [list(range(len(sizes)))])
    found = judge(vectors, labels)
    np.testing.assert_array_equal(np.flatnonzero(found.probability > 0.5), [0])
    assert same_partition(found.part[labels == 0], person[labels == 0])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_wrong_images_are_not_a_second_person(share: float) -> None:
    vectors, person = people(OTHERS)
    order, labels = in_order(wrongly_labelled(person, share))
    found = judge(vectors[order], labels)
    assert (found.probability > 0.5).mean() < 0.04


def test_mixed_identities_are_found_among_wrong_labels() -> None:
    pairs = [[2 * k, 2 * k + 1] for k in range(MIXED)]
    vectors, labels, _ = merged([9, 7] * MIXED + OTHERS, pairs)
    order, noisy = in_order(wrongly_labelled(labels, 0.1))
    found = judge(vectors[order], noisy)
    assert f1(found.probability > 0.5, np.arange(len(found.probability)) < MIXED) > 0.85


def test_small_identities_are_not_judged() -> None:
    vectors, labels, _ = merged([2, 1, 10, 10, *[10] * 20], [[0, 1]])
    found = judge(vectors, labels)
    assert found.probability[0] == 0
    assert np.isnan(found.between[0])


def test_one_identity_alone_is_not_judged() -> None:
    found = judge(*people([30]))
    assert found.probability.tolist() == [0]
    assert not found.part.any()


def test_a_bipartition_finds_the_smaller_group() -> None:
    vectors, person = people([9, 4])
    found = bipartition(vectors)
    assert found is not None
    np.testing.assert_array_equal(found.second, person == 1)
    assert found.sizes == (9, 4)
    centres = [vectors[person == k].sum(axis=0) for k in (0, 1)]
    first, second = (centre / np.linalg.norm(centre) for centre in centres)
    assert found.between == pytest.approx(float(first @ second), abs=1e-5)
    assert min(found.within) > 0.6


def test_cohesion_is_the_mean_cosine_to_the_centre_of_the_others() -> None:
    vectors, person = people([6, 5])
    found = bipartition(vectors)
    assert found is not None
    for part, within in zip((0, 1), found.within, strict=True):
        here = vectors[person == part]
        others = here.sum(axis=0) - here
        cosines = np.einsum("nd,nd->n", here, others) / np.linalg.norm(others, axis=1)
        assert within == pytest.approx(float(cosines.mean()), abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_less_than_four_images_are_not_split(count: int) -> None:
    assert bipartition(np.eye(4, dtype=np.float32)[:count]) is None


@pytest.mark.parametrize("vector", [0.0, 0.5])
def test_equal_images_are_not_split(vector: float) -> None:
    assert bipartition(np.full((10, 4), vector, np.float32)) is None


def test_an_image_is_not_its_own_neighbour() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    np.testing.assert_array_equal(has_company(vectors, 0.5), [True, True, False])
    assert not has_company(vectors[:1], -0.5).any()
