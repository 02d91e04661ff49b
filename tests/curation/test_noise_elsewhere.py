"""Where misplaced images belong: to another identity, or to nobody here."""

import numpy as np
from simulated_people import embedded, in_order, people

from curation.noise.checks.misplaced import probability_elsewhere
from curation.noise.membership import judge_membership

KNOWN, STRAYED, STRANGERS = 80, 60, 60


def test_known_people_go_home_and_strangers_nowhere() -> None:
    """Some images have another known person's label, some show people who are not here at all."""
    random = np.random.default_rng(0)
    vectors, person = people([10] * KNOWN + [1] * STRANGERS)
    label = person.copy()
    strayed = random.choice(10 * KNOWN, STRAYED, replace=False)
    label[strayed] = (label[strayed] + random.integers(1, KNOWN, STRAYED)) % KNOWN
    label[person >= KNOWN] = random.integers(0, KNOWN, STRANGERS)
    order, labels = in_order(label)
    images = embedded(vectors[order], labels)
    membership = judge_membership(images)
    flagged = np.flatnonzero(membership.probability > 0.5)
    found = probability_elsewhere(images, membership, flagged)
    of_strangers = person[order][flagged] >= KNOWN
    assert found.dtype == np.float32
    assert (found[~of_strangers] > 0.9).mean() > 0.9
    assert (found[of_strangers] > 0.9).mean() < 0.1
    moved = flagged[found > 0.9]
    assert (membership.other[moved] == person[order][moved]).mean() > 0.95


def test_where_there_is_no_other_identity_nobody_belongs_elsewhere() -> None:
    images = embedded(*people([20]))
    found = probability_elsewhere(images, judge_membership(images), np.arange(20))
    np.testing.assert_array_equal(found, 0)


def test_asking_for_nobody_answers_nothing() -> None:
    images = embedded(*people([5, 5]))
    assert probability_elsewhere(images, judge_membership(images), np.arange(0)).shape == (0,)


def test_the_same_seed_gives_the_same_answer() -> None:
    vectors, person = people([6] * 20)
    order, labels = in_order(np.where(np.arange(120) % 10 == 0, (person + 3) % 20, person))
    images = embedded(vectors[order], labels)
    membership = judge_membership(images)
    first, again = (
        probability_elsewhere(images, membership, np.arange(120), seed=3) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
