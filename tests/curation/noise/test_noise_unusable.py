"""Images without a usable face: short embeddings that fit no identity."""

import numpy as np
import pytest
from simulated_people import embedded, f1, in_order, people

from curation.neighbours import normalised
from curation.noise.checks.unusable import unusable_probability
from curation.noise.label_errors import estimate_label_errors

SIZES = [4, 6, 9, 14, 20] * 16
FACES, JUNK = len(SIZES), 100


def with_junk(ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and which images are junk, whose norms are ``ratio`` times those of faces."""
    random = np.random.default_rng(0)
    vectors, person = people([*SIZES, *[1] * JUNK])
    junk = person >= FACES
    order, labels = in_order(np.where(junk, random.integers(0, FACES, len(person)), person))
    norm = np.exp(random.normal(np.where(junk, np.log(20 * ratio), np.log(20)), 0.1))
    images = embedded(vectors[order], labels, norm[order].astype(np.float32))
    return unusable_probability(images, estimate_label_errors(images)), junk[order]


def test_short_embeddings_that_fit_no_identity_are_found() -> None:
    found, junk = with_junk(0.4)
    assert f1(found > 0.5, junk) > 0.9


def test_bad_images_do_not_hide_those_without_a_face() -> None:
    vectors, person = people([12] * 80)
    others = people([1] * len(vectors), seed=5)[0]
    junk, bad = np.arange(0, 960, 48), np.arange(5, 960, 12)
    vectors[junk] = others[junk]
    vectors[bad] = normalised(0.5 * vectors[bad] + others[bad])
    norm = np.full(len(vectors), 20.0) * np.random.default_rng(0).uniform(0.9, 1.1, len(vectors))
    norm[bad], norm[junk] = 0.6 * norm[bad], 0.25 * norm[junk]
    images = embedded(vectors, person, norm.astype(np.float32))
    found = unusable_probability(images, estimate_label_errors(images)) > 0.5
    assert found[junk].mean() > 0.3  # 0 by LabelErrors.probability
    assert found[bad].mean() < 0.1


def test_shorter_embeddings_are_more_probably_unusable() -> None:
    judged = [with_junk(ratio) for ratio in (1.0, 0.8, 0.4)]
    means = [float(found[junk].mean()) for found, junk in judged]
    assert means == sorted(means)
    assert means[0] < 0.1
    assert means[-1] > 0.8


def test_wrong_people_with_usual_norms_are_usable() -> None:
    found, _ = with_junk(1.0)
    assert (found > 0.5).sum() <= 2


def test_correctly_labelled_images_are_usable_at_any_norm() -> None:
    vectors, person = people([10] * FACES)
    norm = np.full(len(person), 20, np.float32) * np.random.default_rng(0).uniform(0.9, 1.1, 800)
    norm[::50] = 1.0
    images = embedded(vectors, person, norm.astype(np.float32))
    assert not unusable_probability(images, estimate_label_errors(images)).any()


@pytest.mark.parametrize("length", [0.0, 1.0, 20.0])
def test_equal_norms_are_not_evidence(length: float) -> None:
    vectors, person = people([10] * FACES + [1] * 10)
    images = embedded(vectors, person, np.full(len(person), length, np.float32))
    assert not unusable_probability(images, estimate_label_errors(images)).any()


def test_single_images_are_judged_by_their_norm() -> None:
    vectors, person = people([10] * FACES + [1] * 20)
    random = np.random.default_rng(0)
    norm = np.exp(random.normal(3, 0.1, len(person)))
    norm[-10:] *= 0.3
    images = embedded(vectors, person, norm.astype(np.float32))
    found = unusable_probability(images, estimate_label_errors(images))
    assert np.flatnonzero(found > 0.5).tolist() == list(range(len(person) - 10, len(person)))


@pytest.mark.parametrize("sizes", [[1], [4], [1, 1, 1], [2, 1]])
def test_tiny_sets_raise_no_alarm(sizes: list[int]) -> None:
    images = embedded(*people(sizes))
    assert not unusable_probability(images, estimate_label_errors(images)).any()
