"""Label-error estimates: planted errors are found, and tiny sets are judged sensibly."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_people import embedded, f1, in_order, people, wrongly_labelled

from curation.neighbours import normalised
from curation.noise.embedded import EmbeddedImages
from curation.noise.identity_prototypes import identities_of, similarity_to_identities
from curation.noise.label_errors import (
    LabelErrors,
    best_except,
    estimate_label_errors,
    label_error_arrays,
    load_label_errors,
)
from curation.noise.prototypes import similarity_of_outsiders

SIZES = [12] * 60 + [5] * 40


def planted(share: float, seed: int = 0) -> tuple[EmbeddedImages, np.ndarray]:
    """Simulated people with this share of wrong labels, and which are wrong."""
    vectors, person = people(SIZES, seed, spread=0.9)
    order, labels = in_order(wrongly_labelled(person, share, seed))
    wrong = wrongly_labelled(person, share, seed)[order] != person[order]
    return embedded(vectors[order], labels), wrong


@pytest.fixture(scope="module")
def judged() -> tuple[EmbeddedImages, LabelErrors, np.ndarray]:
    """A fifth of the labels wrong."""
    images, wrong = planted(0.2)
    return images, estimate_label_errors(images), wrong


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_wrong_labels_are_found_at_every_rate(share: float, seed: int) -> None:
    images, wrong = planted(share, seed)
    assert f1(estimate_label_errors(images).probability > 0.5, wrong) > 0.95


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("share", "recall"), [(0.01, 0.6), (0.05, 0.9), (0.2, 0.9)])
def test_out_of_set_errors_are_found_at_every_rate(share: float, recall: float, seed: int) -> None:
    """People who are not in the set, like most wrong labels on the web."""
    vectors, person = people([*SIZES, *[1] * 400], seed, spread=0.9)
    known = np.flatnonzero(person < len(SIZES))
    out_of_set = np.flatnonzero(person >= len(SIZES))[: round(share * len(known))]
    random = np.random.default_rng(seed)
    labels = np.concatenate([person[known], random.choice(person[known], len(out_of_set))])
    order, ascending = in_order(labels)
    rows = np.concatenate([known, out_of_set])[order]
    found = estimate_label_errors(embedded(vectors[rows], ascending)).probability > 0.5
    wrong = person[rows] >= len(SIZES)
    assert (found & wrong).sum() / wrong.sum() > recall
    assert (found & wrong).sum() / found.sum() > 0.9


def test_bad_images_of_the_right_people_are_not_label_errors() -> None:
    """They resemble their own person as little, but their embeddings are short."""
    vectors, person = people([12] * 80)
    others = people([1] * len(vectors), seed=5)[0]
    norm = np.full(len(vectors), 10.0, np.float32)
    out_of_set, bad = np.arange(0, 960, 48), np.arange(5, 960, 12)
    vectors[out_of_set] = others[out_of_set]
    vectors[bad] = normalised(0.3 * vectors[bad] + others[bad])
    norm[bad] = 4.0
    told = estimate_label_errors(embedded(vectors, person, norm)).probability > 0.5
    untold = estimate_label_errors(embedded(vectors, person)).probability > 0.5
    assert told[out_of_set].mean() > 0.9
    assert told[bad].mean() < 0.1 < untold[bad].mean()


def test_either_of_two_images_may_be_the_wrong_one() -> None:
    vectors, person = people([8] * 60 + [2] * 40, spread=0.8)
    pairs = np.flatnonzero(person >= 60)[:40:2]
    vectors[pairs] = people([1] * len(pairs), seed=9)[0]
    probability = estimate_label_errors(embedded(vectors, person)).probability
    assert not (probability[person >= 60] > 0.5).any()


@pytest.mark.parametrize("wrong", [1, 3, 10])
def test_few_wrong_labels_are_found_in_identities_of_one_size(wrong: int) -> None:
    vectors, person = people([10] * 30)
    strayed = np.arange(wrong) * 29 + 9
    vectors[strayed] = normalised(vectors[(strayed + 50) % 300] + 0.05)
    found = estimate_label_errors(embedded(vectors, person))
    assert np.flatnonzero(found.probability > 0.5).tolist() == strayed.tolist()


def test_sound_labels_are_left_alone() -> None:
    images, _ = planted(0.0)
    assert (estimate_label_errors(images).probability > 0.5).mean() < 0.005


def test_the_same_images_and_seed_give_the_same_answer(
    judged: tuple[EmbeddedImages, LabelErrors, np.ndarray],
) -> None:
    images, label_errors, _ = judged
    again = estimate_label_errors(images)
    np.testing.assert_array_equal(again.probability, label_errors.probability)
    np.testing.assert_array_equal(again.candidate, label_errors.candidate)


def test_candidates_of_wrong_images_are_their_true_people() -> None:
    vectors, person = people(SIZES, spread=0.9)
    order, labels = in_order(wrongly_labelled(person, 0.1))
    images = embedded(vectors[order], labels)
    found = estimate_label_errors(images)
    wrong = np.flatnonzero(labels != person[order])
    assert (found.candidate[wrong] == person[order][wrong]).mean() > 0.95
    known = wrong[found.candidate[wrong] >= 0]
    # The prototypes have moved a little since.
    cosines = np.einsum("nd,nd->n", images.vectors(known), found.prototypes[found.candidate[known]])
    np.testing.assert_allclose(found.candidate_similarity[known], cosines, atol=0.05)


def test_single_images_are_never_judged() -> None:
    vectors, person = people([6] * 30 + [1] * 30)
    found = estimate_label_errors(embedded(vectors, person))
    alone = person >= 30
    np.testing.assert_array_equal(found.probability[alone], 0)
    np.testing.assert_array_equal(found.similarity.weight[alone], 0)
    np.testing.assert_array_equal(found.trust[alone], 1)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_no_identity_loses_all_images(share: float) -> None:
    """In an identity of two different people, for example, one image stays as the anchor."""
    vectors, person = people([6] * 40 + [2] * 40 + [1] * 60)
    order, labels = in_order(wrongly_labelled(person, share))
    images = embedded(vectors[order], labels)
    found = estimate_label_errors(images)
    assert (found.probability > 0.5).sum() > 30
    assert np.minimum.reduceat(found.probability, images.offsets[:-1]).max() <= 0.5
    assert np.maximum.reduceat(found.trust, images.offsets[:-1]).min() >= 0.5


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    estimate_label_errors(planted(0.1)[0], progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(len(seen)))
    assert seen[-1][0] == seen[-1][1]


def test_a_view_of_a_mapped_cache_is_judged_like_a_copy(tmp_path: Path) -> None:
    """Float16, upright and mirrored, more rows than the set has, in another order."""
    vectors, person = people([8] * 40)
    order, labels = in_order(wrongly_labelled(person, 0.1))
    random = np.random.default_rng(0)
    rows = random.permutation(500)[: len(order)].astype(np.int64)
    unit = np.zeros((500, 2, vectors.shape[1]), np.float16)
    unit[rows] = normalised(vectors[order][:, None] + 0.01 * random.normal(size=(1, 2, 1)))
    np.save(tmp_path / "unit.npy", unit)
    mapped = np.load(tmp_path / "unit.npy", mmap_mode="r")
    view = EmbeddedImages(labels, mapped, np.ones((500, 2), np.float32), rows)
    copied = embedded(normalised(unit[rows].astype(np.float32).sum(axis=1)), labels)
    np.testing.assert_allclose(view.vectors(slice(3, 9)), copied.vectors(slice(3, 9)), atol=1e-6)
    found, expected = estimate_label_errors(view), estimate_label_errors(copied)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
    np.testing.assert_array_equal(found.candidate, expected.candidate)


def test_lengths_are_the_mean_of_both_views() -> None:
    norm = np.array([[1, 3], [10, 20], [0, 0]], np.float32)
    images = EmbeddedImages(
        np.array([0, 1]), np.eye(3)[:, None].repeat(2, 1), norm, np.array([1, 0])
    )
    np.testing.assert_array_equal(images.lengths(), [15, 2])
    assert (len(images), images.identities, images.dimension) == (2, 2, 3)


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_identities_are_yielded_one_by_one_with_vectors(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    images = embedded(np.eye(8, dtype=np.float32)[labels], labels)
    seen = list(identities_of(images))
    assert [identity for identity, _, _ in seen] == list(range(len(sizes)))
    for identity, which, vectors in seen:
        assert which == images.images_of(identity)
        assert vectors.shape == (sizes[identity], 8)
        assert (vectors.argmax(axis=1) == identity).all()


def test_saved_estimates_are_restored(
    judged: tuple[EmbeddedImages, LabelErrors, np.ndarray], tmp_path: Path
) -> None:
    images, label_errors, _ = judged
    np.savez(tmp_path / "kept.npz", **label_error_arrays(label_errors))
    with np.load(tmp_path / "kept.npz") as arrays:
        again = load_label_errors(images, dict(arrays))
    for name in ("probability", "trust", "candidate", "candidate_similarity", "prototypes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(label_errors, name))
    np.testing.assert_array_equal(again.similarity.nearest, label_errors.similarity.nearest)


def test_saved_estimates_of_other_images_are_refused(
    judged: tuple[EmbeddedImages, LabelErrors, np.ndarray],
) -> None:
    _, label_errors, _ = judged
    others = embedded(*people([3, 3]))
    with pytest.raises(ValueError, match="other images"):
        load_label_errors(others, label_error_arrays(label_errors))


def test_each_vector_is_compared_with_its_listed_identity() -> None:
    vectors, person = people([4, 1, 6])
    images, trust = embedded(vectors, person), np.linspace(0.3, 1, 11).astype(np.float32)
    outsiders, asked = people([1] * 5, seed=3)[0], np.array([2, 0, 2, 1, 0])
    found = similarity_to_identities(images, trust, outsiders, asked)
    for i, identity in enumerate(asked):
        which = images.images_of(int(identity))
        slow = similarity_of_outsiders(outsiders[i : i + 1], vectors[which], trust[which])
        np.testing.assert_allclose(
            [found.prototype[i], found.nearest[i], found.weight[i]],
            [slow.prototype[0], slow.nearest[0], slow.weight[0]],
            rtol=1e-5,
        )


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_best_allowed_identity(data: st.DataObject) -> None:
    rows, columns = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    similarities = random.uniform(-1, 1, (rows, columns)).astype(np.float32)
    indices = random.integers(-1, 4, (rows, columns))
    first, second = random.integers(-1, 4, (2, rows))
    best, whose = best_except(similarities, indices, first, second)
    for i in range(rows):
        allowed = [
            (float(similarity), int(index))
            for similarity, index in zip(similarities[i], indices[i], strict=True)
            if index not in (-1, first[i], second[i])
        ]
        expected = max(allowed, key=lambda entry: entry[0], default=(-1.0, -1))
        assert (float(best[i]), int(whose[i])) == expected


LITTLE = {
    "one image": [0],
    "two of one person": [0, 0],
    "one identity": [0] * 20,
    "two identities": [0] * 6 + [1] * 5,
    "a pair and a single": [0, 0, 1],
    "only singles": list(range(12)),
    "only pairs": [i // 2 for i in range(24)],
}


@pytest.mark.parametrize("labels", LITTLE.values(), ids=LITTLE.keys())
@pytest.mark.parametrize("content", ["people", "nobody", "all alike", "zeros"])
def test_tiny_sets_raise_no_alarm(labels: list[int], content: str) -> None:
    vectors = {
        "people": people(np.bincount(labels).tolist(), spread=0.3)[0],
        "nobody": people([1] * len(labels))[0],
        "all alike": np.full((len(labels), 64), 0.125, np.float32),
        "zeros": np.zeros((len(labels), 64), np.float32),
    }[content]
    found = estimate_label_errors(embedded(vectors, labels))
    assert ((found.probability >= 0) & (found.probability <= 1)).all()
    assert not (found.probability > 0.5).any()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_probabilities_are_finite_for_any_labels(labels: list[int], seed: int) -> None:
    order, ascending = in_order(np.array(labels))
    vectors = normalised(np.random.default_rng(seed).normal(size=(len(order), 3)).round())
    found = estimate_label_errors(embedded(vectors, ascending))
    for name in ("probability", "trust"):
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert ((array >= 0) & (array <= 1)).all()
    assert ((found.candidate >= -1) & (found.candidate < found.prototypes.shape[0])).all()
    assert (found.candidate != ascending).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("probability", np.nan),
        ("doubt", -0.1),
        ("trust", 1.1),
        ("support", np.inf),
        ("other", 10**6),
        ("other", -2),
        ("other_similarity", np.nan),
    ],
)
def test_impossible_saved_values_are_refused(
    judged: tuple[EmbeddedImages, LabelErrors, np.ndarray], name: str, value: float
) -> None:
    images, label_errors, _ = judged
    arrays = {each: array.copy() for each, array in label_error_arrays(label_errors).items()}
    arrays[name].flat[3] = value
    with pytest.raises(ValueError, match=f"{name} has impossible values"):
        load_label_errors(images, arrays)
    for other in (arrays[name][..., :-1], arrays[name].astype(np.float64)):
        with pytest.raises(ValueError, match=f"{name} belongs to other images"):
            load_label_errors(images, {**arrays, name: other})
