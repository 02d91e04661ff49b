"""People of an evaluation set are found among the identities."""

import numpy as np
import pytest
from simulated_people import embedded, people

from curation.noise.checks.overlap import find_overlap
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.label_errors import LabelErrors, estimate_label_errors

TRAINED, SHARED = 80, 4


@pytest.fixture(scope="module")
def everybody() -> tuple[EmbeddedImages, LabelErrors, np.ndarray, np.ndarray]:
    """Eighty people to train on; vectors of two hundred, whose first eighty are the same."""
    vectors, person = people([12] * 200)
    trained = (person < TRAINED) & (np.arange(len(person)) % 12 < 8)
    images = embedded(vectors[trained], person[trained])
    return images, estimate_label_errors(images), vectors[~trained], person[~trained]


def test_people_of_the_evaluation_set_are_found(everybody) -> None:
    images, label_errors, vectors, person = everybody
    others = vectors[person >= TRAINED]
    shared = np.isin(person, np.arange(10, 10 + SHARED))
    sets = [
        EvaluationImages("others", others[::2]),
        EvaluationImages("mixed", np.concatenate([others[1:200:2], vectors[shared]])),
    ]
    found = find_overlap(images, label_errors, sets)
    assert np.flatnonzero(found.probability > 0.5).tolist() == list(range(10, 10 + SHARED))
    for identity in range(10, 10 + SHARED):
        assert found.set[identity] == 1
        evidence = sets[1].vectors[found.image[identity]]
        cosine = float(evidence @ label_errors.prototypes[identity])
        assert found.similarity[identity] == pytest.approx(cosine, abs=1e-5)
        assert any((evidence == vector).all() for vector in vectors[person == identity])


def test_other_people_are_not_flagged(everybody) -> None:
    images, label_errors, vectors, person = everybody
    found = find_overlap(images, label_errors, [EvaluationImages("s", vectors[person >= TRAINED])])
    assert not (found.probability > 0.5).any()


@pytest.mark.parametrize("sets", [[], [EvaluationImages("empty", np.zeros((0, 64), np.float32))]])
def test_without_evaluation_images_nobody_is_flagged(everybody, sets) -> None:
    images, label_errors, _, _ = everybody
    found = find_overlap(images, label_errors, sets)
    assert not found.probability.any()
    np.testing.assert_array_equal(found.set, -1)


def test_an_empty_set_does_not_shift_the_numbers_of_the_others(everybody) -> None:
    images, label_errors, vectors, person = everybody
    others = vectors[person >= TRAINED]
    both = np.concatenate([others, vectors[person == 7]])
    sets = [EvaluationImages("empty", others[:0]), EvaluationImages("full", both)]
    found = find_overlap(images, label_errors, sets)
    assert np.flatnonzero(found.probability > 0.5).tolist() == [7]
    assert found.set[7] == 1
    assert found.image[7] >= len(others)


def test_without_identities_of_two_images_nobody_is_flagged() -> None:
    vectors, person = people([1] * 20)
    images = embedded(vectors, person)
    found = find_overlap(images, estimate_label_errors(images), [EvaluationImages("same", vectors)])
    assert not (found.probability > 0.5).any()


def test_progress_counts_evaluation_images(everybody) -> None:
    images, label_errors, vectors, _ = everybody
    seen: list[tuple[int, int]] = []
    find_overlap(
        images,
        label_errors,
        [EvaluationImages("one", vectors[:30]), EvaluationImages("two", vectors[30:50])],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (50, 50)
