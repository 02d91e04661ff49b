"""One person under several identities: found, and merged if all of them agree."""

import numpy as np
import pytest
from simulated_people import embedded, people

from curation.noise.checks.divided import SplitIdentities, _merge, find_split_identities
from curation.noise.label_errors import estimate_label_errors

OTHERS = 80
COUNTED = [(9, 5), (4, 8), (6, 6), (2, 10), (3, 3)]
"""Images of two identities that are one person: identities 0 and 1, 2 and 3, ..."""


def judge(vectors: np.ndarray, labels: np.ndarray) -> SplitIdentities:
    images = embedded(vectors, labels)
    return find_split_identities(images, estimate_label_errors(images))


@pytest.fixture(scope="module")
def divided() -> tuple[SplitIdentities, np.ndarray]:
    """Five people under two identities each, one under three, and others; sizes of identities."""
    parts = [size for pair in COUNTED for size in pair]
    sizes = [*map(sum, COUNTED), 15, *[8] * OTHERS]
    vectors, _ = people(sizes)
    each = np.array([*parts, 5, 6, 4, *[8] * OTHERS])
    return judge(vectors, np.repeat(np.arange(len(each)), each)), each


def test_both_halves_of_a_split_identity_are_flagged(
    divided: tuple[SplitIdentities, np.ndarray],
) -> None:
    found, _ = divided
    halves = np.arange(2 * len(COUNTED))
    assert (found.probability[halves] > 0.5).all()
    np.testing.assert_array_equal(found.other[halves], halves ^ 1)
    assert (found.probability[13:] > 0.5).sum() == 0


def test_the_smaller_half_is_merged_into_the_larger(
    divided: tuple[SplitIdentities, np.ndarray],
) -> None:
    found, each = divided
    for first in range(0, 2 * len(COUNTED), 2):
        pair = [first, first + 1]
        larger = max(pair, key=lambda k: (each[k], -k))
        assert found.into[pair].tolist() == [larger, larger]
    np.testing.assert_array_equal(found.into[13:], np.arange(13, len(each)))


def test_three_identities_of_one_person_become_the_largest(
    divided: tuple[SplitIdentities, np.ndarray],
) -> None:
    assert divided[0].into[10:13].tolist() == [11, 11, 11]


def test_similarities_are_cosines_of_the_prototypes(
    divided: tuple[SplitIdentities, np.ndarray],
) -> None:
    found, _ = divided
    assert ((found.similarity >= -1.0001) & (found.similarity <= 1.0001)).all()
    assert found.similarity[:13].min() > 0.7 > found.similarity[13:].max()


def test_different_people_stay_apart() -> None:
    vectors, person = people([8] * OTHERS)
    found = judge(vectors, person)
    assert not (found.probability > 0.5).any()
    np.testing.assert_array_equal(found.into, np.arange(OTHERS))


@pytest.mark.parametrize("sizes", [[1], [6], [1] * 20, [5, 1]])
def test_a_single_identity_is_never_split(sizes: list[int]) -> None:
    found = judge(*people(sizes))
    np.testing.assert_array_equal(found.into, np.arange(len(sizes)))
    assert ((found.probability >= 0) & (found.probability <= 0.5)).all()


def merge(sizes: list[int], pairs: list[tuple[int, int]], probability: list[float]) -> list[int]:
    return _merge(np.array(sizes), np.array(pairs), np.array(probability)).tolist()


def test_a_chain_of_hard_negatives_does_not_become_one_person() -> None:
    """0 and 1 are alike, 1 and 2 too, but 0 and 2 are not: only the more certain pair is merged."""
    assert merge([5, 5, 5], [(0, 1), (1, 2), (0, 2)], [0.8, 0.9, 0.1]) == [0, 1, 1]
    assert merge([5, 5, 5], [(0, 1), (1, 2)], [0.9, 0.8]) == [0, 0, 2]


def test_if_every_pair_is_alike_all_become_the_largest() -> None:
    assert merge([5, 9, 7], [(0, 1), (1, 2), (0, 2)], [0.8, 0.9, 0.7]) == [1, 1, 1]
    pairs = [(0, 1), (2, 3), (0, 2), (0, 3), (1, 2), (1, 3)]
    assert merge([2, 2, 2, 2], pairs, [0.9, 0.95, 0.6, 0.6, 0.6, 0.6]) == [0, 0, 0, 0]
    assert merge([2, 2, 2, 2], pairs, [0.9, 0.95, 0.6, 0.6, 0.6, 0.4]) == [0, 0, 2, 2]


def test_pairs_at_even_odds_are_not_merged() -> None:
    assert merge([5, 5], [(0, 1)], [0.5]) == [0, 1]
