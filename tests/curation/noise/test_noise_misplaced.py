"""Relabelling misplaced images: to another identity, or to none."""

import numpy as np
from simulated_people import embedded, in_order, people

from curation.noise.checks.misplaced import relabel_probability
from curation.noise.label_errors import estimate_label_errors

KNOWN, STRAYED, OUT_OF_SET = 80, 60, 60


def test_people_of_the_set_are_relabelled_and_others_are_not() -> None:
    """Some images have another known person's label, some show people who are not in the set."""
    random = np.random.default_rng(0)
    vectors, person = people([10] * KNOWN + [1] * OUT_OF_SET)
    label = person.copy()
    strayed = random.choice(10 * KNOWN, STRAYED, replace=False)
    label[strayed] = (label[strayed] + random.integers(1, KNOWN, STRAYED)) % KNOWN
    label[person >= KNOWN] = random.integers(0, KNOWN, OUT_OF_SET)
    order, labels = in_order(label)
    images = embedded(vectors[order], labels)
    label_errors = estimate_label_errors(images)
    flagged = np.flatnonzero(label_errors.probability > 0.5)
    found = relabel_probability(images, label_errors, flagged)
    out_of_set = person[order][flagged] >= KNOWN
    assert found.dtype == np.float32
    assert (found[~out_of_set] > 0.9).mean() > 0.9
    assert (found[out_of_set] > 0.9).mean() < 0.1
    moved = flagged[found > 0.9]
    assert (label_errors.candidate[moved] == person[order][moved]).mean() > 0.95


def test_without_another_identity_there_is_no_candidate() -> None:
    images = embedded(*people([20]))
    found = relabel_probability(images, estimate_label_errors(images), np.arange(20))
    np.testing.assert_array_equal(found, 0)


def test_no_images_have_no_candidates() -> None:
    images = embedded(*people([5, 5]))
    assert relabel_probability(images, estimate_label_errors(images), np.arange(0)).shape == (0,)


def test_the_same_seed_gives_the_same_answer() -> None:
    vectors, person = people([6] * 20)
    order, labels = in_order(np.where(np.arange(120) % 10 == 0, (person + 3) % 20, person))
    images = embedded(vectors[order], labels)
    label_errors = estimate_label_errors(images)
    first, again = (
        relabel_probability(images, label_errors, np.arange(120), seed=3) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
