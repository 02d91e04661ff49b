"""The parts of the noise benchmarks: planted faults, metrics, rival methods, simulation."""

from collections import Counter
from pathlib import Path

import noise_image_faults
import numpy as np
import plant
import pytest
import rivals
import simulate
from hypothesis import given
from hypothesis import strategies as st
from simulated_people import embedded, people

from curation.noise.embedded import EmbeddedImages

LABELS = np.repeat(np.arange(20), 10)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def spoilt() -> EmbeddedImages:
    """Twelve people with ten images each; the first image of each is another person's."""
    vectors, labels = people([10] * 12)
    vectors[::10] = np.roll(vectors[::10], 1, axis=0)
    return embedded(vectors, labels)


@pytest.mark.parametrize("target", ["identity", "image"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_exactly_the_given_share_is_mislabelled(
    share: float, target: plant.Target, random: np.random.Generator
) -> None:
    given_labels = plant.wrong_labels(LABELS, share, target, random)

    assert (given_labels != LABELS).sum() == round(share * len(LABELS))
    assert np.isin(given_labels, LABELS).all()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_out_of_set_errors_show_removed_identities(
    share: float, random: np.random.Generator
) -> None:
    rows, given_labels = plant.out_of_set_labels(LABELS, share, random)

    strange = given_labels != LABELS[rows]
    stay = np.unique(given_labels)
    assert len(stay) == 16
    assert not np.isin(LABELS[rows[strange]], stay).any()
    assert strange.sum() == round(share * 160)
    assert len(np.unique(rows)) == len(rows) == 160 + strange.sum()


def test_reliability_counts_faults_in_bins_of_probability() -> None:
    probability = np.array([0.0, 0.005, 0.2, 0.6, 0.95, 1.0])
    faulty = np.array([False, False, True, False, True, True])
    bins = noise_image_faults.reliability_bins(probability, faulty)

    assert bins.tolist() == [[2, 0], [0, 0], [1, 1], [0, 0], [1, 0], [0, 0], [1, 1], [1, 1]]


def test_a_random_label_is_more_often_a_large_identitys(
    random: np.random.Generator,
) -> None:
    labels = np.repeat([0, 1, 2], [10, 1000, 1000])

    by_image = plant.wrong_labels(labels, 0.5, "image", random)
    by_identity = plant.wrong_labels(labels, 0.5, "identity", random)

    assert (by_image == 0).sum() < 30
    assert (by_identity == 0).sum() > 300


def test_merged_identities_take_the_label_of_the_first() -> None:
    merged = plant.merge_identities(LABELS, np.array([[3, 7], [4, 1]]))

    assert set(np.unique(LABELS)) - set(np.unique(merged)) == {7, 1}
    assert (merged[LABELS == 7] == 3).all()


def test_divided_identities_keep_at_least_half_their_images(random: np.random.Generator) -> None:
    divided = plant.split_identities(LABELS, np.array([2, 5]), random)

    assert (np.bincount(divided)[[2, 5]] >= 5).all()
    assert (LABELS[divided == 20] == 2).all()
    assert (LABELS[divided == 21] == 5).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40))
def test_people_are_counted_correctly(pairs: list[tuple[int, int]]) -> None:
    names, labels = np.unique([label for label, _ in pairs], return_inverse=True)
    person = np.array([person for _, person in pairs])
    nothing = np.zeros((len(pairs), 2), np.float32)
    images, order, _ = plant.in_order(labels, nothing, nothing[:, 0], np.arange(len(pairs)))

    found = plant.people_of(person[order], images)

    for identity in range(len(names)):
        counts = Counter(person[labels == identity].tolist())
        most, *others = sorted(counts.values(), reverse=True)
        assert counts[int(found.first[identity])] == most
        assert found.share[identity] == most / counts.total()
        assert found.second[identity] == (others[0] if others else 0)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 5),
)
def test_hindsight_uses_the_best_of_all_thresholds(
    cases: list[tuple[int, bool]], missed: int
) -> None:
    scores = np.array([float(score) for score, _ in cases])
    faulty = np.array([fault for _, fault in cases])
    planted = int(faulty.sum()) + missed
    tried = [
        plant.marks_of(int((faulty & (scores >= t)).sum()), int((scores >= t).sum()), planted)
        for t in np.unique(scores)
    ]

    best, threshold = plant.in_hindsight(scores, faulty, missed)

    assert best.f1 == pytest.approx(max(one.f1 for one in tried))
    assert best.recall == pytest.approx((faulty & (scores >= threshold)).sum() / max(planted, 1))


def test_the_centre_counts_the_image_itself(spoilt: EmbeddedImages) -> None:
    vectors = spoilt.vectors(slice(None))
    cosines = rivals.centre_cosines(vectors, spoilt.offsets)

    mean = vectors[30:40].mean(axis=0)
    assert cosines[34] == pytest.approx(vectors[34] @ mean / np.linalg.norm(mean), abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.6, 0.9, 1.1])
def test_cutting_the_tree_is_dbscan(spoilt: EmbeddedImages, epsilon: float) -> None:
    cluster = pytest.importorskip("sklearn.cluster", reason="wants the extra bench")
    vectors = spoilt.vectors(slice(None))
    trees = rivals.single_linkage(vectors, spoilt.offsets)

    for which, tree in trees:
        ours, _ = rivals.dbscan_sizes(tree, epsilon)
        theirs = cluster.DBSCAN(eps=epsilon, min_samples=2).fit_predict(vectors[which])
        together = (theirs[:, None] == theirs) & (theirs >= 0) | np.eye(len(theirs), dtype=bool)
        assert ((ours[:, None] == ours) == together).all()


def test_keep_largest_drops_the_wrong_images(spoilt: EmbeddedImages) -> None:
    pytest.importorskip("scipy", reason="wants the extra bench")
    trees = rivals.single_linkage(spoilt.vectors(slice(None)), spoilt.offsets)

    dropped = rivals.outside_largest(len(spoilt), trees, 1.1)

    assert plant.marks(dropped, np.arange(len(spoilt)) % 10 == 0).f1 > 0.9


def test_label_issues_are_the_wrong_images(spoilt: EmbeddedImages) -> None:
    pytest.importorskip("cleanlab", reason="wants the extra bench")
    vectors = spoilt.vectors(slice(None))
    wrong = np.arange(len(vectors)) % 10 == 0

    issues, quality = rivals.label_issues(vectors, spoilt.labels, spoilt.offsets)

    assert plant.marks(issues, wrong).f1 > 0.9
    assert plant.in_hindsight(-quality, wrong)[0].f1 > 0.9


def test_angles_and_cosines_find_the_wrong_images(spoilt: EmbeddedImages) -> None:
    pytest.importorskip("sklearn", reason="wants the extra bench")
    vectors = spoilt.vectors(slice(None))
    wrong = np.arange(len(vectors)) % 10 == 0

    angles, _ = rivals.subcentre_angles(vectors, spoilt.offsets)
    cosines = rivals.centre_cosines(vectors, spoilt.offsets)

    for score in (angles, -cosines):
        assert plant.in_hindsight(score, wrong)[0].f1 > 0.9


def test_probabilities_are_computed_out_of_sample(spoilt: EmbeddedImages) -> None:
    vectors, labels = spoilt.vectors(slice(None)), spoilt.labels
    probabilities = rivals.out_of_sample_probabilities(vectors, labels, spoilt.identities)

    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    others = np.where(np.arange(len(labels)) == 34, 0.0, labels == labels[34])
    centres = np.stack([others @ vectors, (labels == 5) @ vectors])
    cosines = (centres / np.linalg.norm(centres, axis=1, keepdims=True)) @ vectors[34]
    ratio = np.log(probabilities[34, labels[34]] / probabilities[34, 5]) / (cosines @ [1, -1])
    assert ratio == pytest.approx(
        min(rivals.SCALES, key=lambda scale: abs(scale - ratio)), rel=0.01
    )


def test_duplicates_join_at_their_distance() -> None:
    pytest.importorskip("scipy", reason="wants the extra bench")
    vectors, labels = people([5, 5])
    vectors[7] = vectors[6]
    offsets = embedded(vectors, labels).offsets

    merges, together = rivals.merging_distances(vectors, offsets, np.array([[6, 7]]))

    assert len(merges) == 8
    assert together == pytest.approx([0.0], abs=1e-3)


def test_simulated_faces_spread_like_the_measured_ones(tmp_path: Path) -> None:
    simulate.write_simulated(tmp_path, 20_000, 400, 256)
    unit = np.load(tmp_path / simulate.UNIT).astype(np.float32)
    person = np.load(tmp_path / simulate.TRUTH)
    labels = np.load(tmp_path / simulate.LABELS)
    random = np.random.default_rng(0)

    first, second = random.integers(0, len(unit), (2, 50_000))
    different = person[first] != person[second]
    cosines = np.einsum("nd,nd->n", unit[first], unit[second])[different]
    largest = np.flatnonzero(person == np.bincount(person[person >= 0]).argmax())
    centre = unit[largest].mean(axis=0)

    assert len(unit) == 20_000
    assert (np.diff(labels) >= 0).all()
    assert cosines.std() == pytest.approx(simulate.STRANGERS_SPREAD, rel=0.2)
    assert np.median(unit[largest] @ centre / np.linalg.norm(centre)) == pytest.approx(
        0.78, abs=0.04
    )
    assert np.mean(person != labels) == pytest.approx(0.06, abs=0.02)
