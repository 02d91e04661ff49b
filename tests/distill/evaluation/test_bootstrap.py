"""Intervals over draws of identities, against draws that copy people literally."""

from dataclasses import replace

import numpy as np
import pytest
from features_of_people import normalised

from curation.pairs import VerificationPairs
from distill.evaluation.all_pairs import all_pair_scores
from distill.evaluation.bootstrap import (
    area_and_equal_error,
    bootstrap,
    interval,
    recentred,
    tars_and_thresholds,
    ten_fold_accuracy,
)
from distill.evaluation.curves import area_under_roc, equal_error_rate
from distill.evaluation.pair_scores import ImpostorTotals, linked_identities, listed_scores
from distill.evaluation.paired import drawn_mean_accuracies, measures, measures_of_all
from distill.evaluation.rates import pair_rates
from distill.evaluation.verification import squared_distances, ten_fold
from tests.memory import traced_memory


def listed(pairs: int, identities: int, seed: int = 0):
    """Cosines, ``same`` and identities of pairs, with both kinds in every fold."""
    generator = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    left = generator.integers(0, identities, pairs)
    other = (left + 1 + generator.integers(0, identities - 1, pairs)) % identities
    cosines = np.clip(generator.normal(np.where(same, 0.55, 0.05), 0.2), -1, 1)
    return cosines, same, left, np.where(same, left, other)


def copies(same: np.ndarray, left: np.ndarray, right: np.ndarray, weights: np.ndarray):
    """The indices of the pairs in a draw, each repeated by its weight."""
    counts = [
        weights[a] if genuine else weights[a] * weights[b]
        for genuine, a, b in zip(same, left, right, strict=True)
    ]
    return np.repeat(np.arange(len(same)), np.array(counts, int))


def test_a_draw_is_the_measure_of_copied_people():
    cosines, same, left, right = listed(3000, 40)
    statistic = tars_and_thresholds(listed_scores(cosines, same, left, right), [1, 2])
    weights = np.random.default_rng(1).multinomial(40, [1 / 40] * 40, size=5).astype(np.float32)
    measured = statistic(weights)
    for draw in range(5):
        chosen = copies(same, left, right, weights[draw])
        rate = pair_rates(cosines[chosen], same[chosen])["1e-2"]
        assert measured[draw, 1].tolist() == pytest.approx([rate["tar"], rate["cosine_threshold"]])


def test_a_draw_without_pairs_is_nan_and_ignored_by_the_interval():
    same = np.arange(40) % 2 == 0
    left, right = np.zeros(40, int), np.where(same, 0, 1)  # identity 1 has no genuine pair
    distances = np.where(same, 0.5, 1.5)
    statistic = ten_fold_accuracy(distances, same, left, right)
    assert np.isnan(statistic(np.array([[0, 2]], np.float32))).tolist() == [True]
    assert interval(bootstrap(statistic, 2)) == [1.0, 1.0]


def test_accuracy_of_a_draw_equals_that_of_copied_people():
    cosines, same, left, right = listed(2000, 100)
    distances = 2 - 2 * cosines
    statistic = ten_fold_accuracy(distances, same, left, right)
    assert statistic(np.ones((1, 100), np.float32))[0] == pytest.approx(
        ten_fold(distances, same).accuracy, abs=1e-6
    )


def slow_accuracy(distances: np.ndarray, same: np.ndarray, weight: np.ndarray) -> float:
    """Ten folds over weighted pairs, with every threshold of the grid tried in turn."""
    folds = np.array_split(np.arange(len(same)), 10)

    def correct(fold: np.ndarray, threshold: float) -> float:
        return float(weight[fold][(distances[fold] < threshold) == same[fold]].sum())

    grid = np.arange(0, 4, 0.01)
    accuracies = []
    for fold in folds:
        others = [sum(correct(o, t) for o in folds if o is not fold) for t in grid]
        if weight[fold].sum():
            best = grid[int(np.argmax(others))]
            accuracies.append(correct(fold, best) / weight[fold].sum())
    return float(np.mean(accuracies))


@pytest.mark.parametrize(("pairs", "identities"), [(20, 9), (60, 25), (400, 100)])
def test_accuracies_of_draws_equal_those_of_a_slow_protocol(pairs: int, identities: int):
    cosines, same, left, right = listed(pairs, identities)
    distances = 2 - 2 * cosines
    # Ties, thresholds of the grid themselves, and distances that no threshold accepts.
    distances[: pairs // 4] = np.round(distances[: pairs // 4], 1)
    distances[pairs // 2 : pairs // 2 + 3] = [0.0, 3.99, 4.0]
    generator = np.random.default_rng(1)
    weights = generator.multinomial(identities, [1 / identities] * identities, size=4)
    measured = ten_fold_accuracy(distances, same, left, right)(weights.astype(np.float32))
    for draw, drawn in zip(measured, weights, strict=True):
        weight = np.where(same, drawn[left], drawn[left] * drawn[right])
        assert draw == pytest.approx(slow_accuracy(distances, same, weight), abs=1e-12)


def test_the_weight_of_all_impostors_equals_that_of_a_loop():
    generator = np.random.default_rng(0)
    labels, others = generator.integers(0, 6, 30), generator.integers(-1, 6, 50)
    weights = generator.integers(0, 4, (3, 6)).astype(np.float32)
    sizes = np.bincount(labels, minlength=6)
    itself, cross = ImpostorTotals(sizes).weigh(weights), None
    known = others[others >= 0]
    cross = ImpostorTotals(sizes, np.bincount(known, minlength=6), int((others < 0).sum()))
    for draw, weight in enumerate(weights):
        pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :] if a != b]
        assert itself[draw] == sum(weight[a] * weight[b] for a, b in pairs)
        pairs = [(a, b) for a in labels for b in others if a != b]
        slow = sum(weight[a] * (weight[b] if b >= 0 else 1) for a, b in pairs)
        assert cross.weigh(weights)[draw] == slow


def test_a_draw_of_one_person_has_no_impostors_and_no_rate():
    cosines, same, left, right = listed(2000, 20)
    weights = np.ones((2, 20), np.float32)
    weights[1] = 20 * (np.arange(20) == 3)
    scores = listed_scores(cosines, same, left, right)
    measured = tars_and_thresholds(scores, [1, 2])(weights)
    assert np.isfinite(measured[0]).all()
    assert np.isnan(measured[1]).all()


def test_thinned_scores_represent_all_scores():
    cosines, same, left, right = listed(120_000, 500)
    scores = listed_scores(cosines, same, left, right)
    measured = tars_and_thresholds(scores, [1, 3])(np.ones((1, 500), np.float32))[0]
    rates = pair_rates(cosines, same)
    assert measured[1, 1] == rates["1e-3"]["cosine_threshold"]
    assert measured[1, 0] == pytest.approx(rates["1e-3"]["tar"], abs=1e-3)
    exact = -np.sort(-cosines[~same])[6000]
    assert measured[0, 1] == pytest.approx(exact, abs=1e-3)


def test_nineteen_of_twenty_intervals_contain_the_true_value():
    """The accuracy over many people, and the intervals of 200 samples of 60 of them."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        people = generator.beta(8, 2, 60)  # the recognition rate of each person
        passed = generator.binomial(20, people)

        def rate(weights: np.ndarray, passed: np.ndarray = passed) -> np.ndarray:
            return weights @ passed / (weights.sum(axis=1) * 20)

        low, high = interval(bootstrap(rate, 60, draws=300))
        hits += low <= 0.8 <= high
    assert 178 <= hits <= 200


def test_two_networks_are_compared_on_the_same_draws():
    cosines, same, left, right = listed(6000, 2000)
    better = np.clip(cosines + np.where(same, 0.02, 0.0), -1, 1)
    first = ten_fold_accuracy(2 - 2 * cosines, same, left, right)
    second = ten_fold_accuracy(2 - 2 * better, same, left, right)
    apart = interval(bootstrap(second, 2000))[0] < interval(bootstrap(first, 2000))[1]
    assert apart  # separate intervals would not distinguish them
    assert interval(bootstrap(lambda w: second(w) - first(w), 2000))[0] > 0


def test_networks_without_a_genuine_pair_have_no_measures():
    features = np.eye(8, dtype=np.float32)
    images = [bytes([number]) for number in range(8)]
    pairs = VerificationPairs(images, np.zeros(4, bool), "0", "strangers")
    assert measures(features, pairs).names == []
    assert measures_of_all(all_pair_scores(features, np.arange(8))).names == []


def test_files_and_genuine_pairs_link_people():
    images = [b"a", b"b", b"b", b"c", b"d", b"e", b"a", b"d"]
    left, right = linked_identities(images, np.array([True, True, True, False]))
    assert left[0] == right[0] == left[1] == right[1] == left[3]
    assert left[2] == right[2] == right[3] != left[0]


def test_draws_do_not_depend_on_the_measure():
    seen = [bootstrap(lambda weights: weights, 7, draws=250) for _ in range(2)]
    assert (seen[0] == seen[1]).all()
    assert (seen[0].sum(axis=1) == 7).all()
    assert len(seen[0]) == 250


@pytest.mark.parametrize("decimals", [1, 8])
def test_area_and_error_of_a_draw_equal_those_of_copied_people(decimals):
    cosines, same, left, right = listed(400, 40)
    cosines = np.round(cosines, decimals)  # with one decimal most scores are tied
    statistic = area_and_equal_error(listed_scores(cosines, same, left, right))
    weights = np.random.default_rng(1).multinomial(40, [1 / 40] * 40, size=5).astype(np.float32)
    for weight, found in zip(weights, statistic(weights), strict=True):
        chosen = copies(same, left, right, weight)
        kinds = cosines[chosen][same[chosen]], cosines[chosen][~same[chosen]]
        assert found.tolist() == pytest.approx([area_under_roc(*kinds), equal_error_rate(*kinds)])


def test_a_recentred_interval_stays_within_rates():
    drawn = np.linspace(0.9, 1.0, 1001)
    assert recentred(drawn, 0.95, 0.5) == pytest.approx([0.4525, 0.5475])
    assert recentred(drawn, 0.95, 0.99)[1] == 1
    assert recentred(drawn, 0.95, 0.01)[0] == 0


def drawn_pairs(count, people, seed, name="pairs"):
    """A set of pairs whose image bytes are PERSON.NUMBER, and unit features of its images."""
    generator = np.random.default_rng(seed)
    same = np.arange(count) % 2 == 0
    left = generator.integers(0, people, count)
    right = np.where(same, left, (left + 1 + generator.integers(0, people - 1, count)) % people)
    who = np.stack([left, right], axis=1).ravel()
    number = np.where(np.repeat(same, 2), np.arange(2 * count) % 2, 0)
    images = [b"%d.%d" % each for each in zip(who.tolist(), number.tolist(), strict=True)]
    centres = generator.normal(size=(people, 8))
    features = normalised(centres[who] + generator.normal(size=(2 * count, 8)))
    return VerificationPairs(images, same, f"digest of {name}", name), features


def test_mean_accuracy_of_one_set_equals_its_accuracy_per_draw():
    pairs, features = drawn_pairs(400, 60, seed=3)
    left, right = linked_identities(pairs.images, pairs.same)
    statistic = ten_fold_accuracy(
        squared_distances(features[::2], features[1::2]), pairs.same, left, right
    )
    expected = bootstrap(statistic, int(max(left.max(), right.max())) + 1)
    assert drawn_mean_accuracies([features], [pairs]).tolist() == expected.tolist()


def test_a_person_in_two_sets_is_drawn_once_for_both():
    pairs, features = drawn_pairs(400, 60, seed=3)
    others, other_features = drawn_pairs(400, 60, seed=4)
    alone = drawn_mean_accuracies([features], [pairs])
    twice = drawn_mean_accuracies([features, features], [pairs, pairs])
    assert twice == pytest.approx(alone)
    strangers = [b"of others: " + image for image in others.images]
    apart = replace(others, images=strangers)
    both = [features, other_features]
    linked = drawn_mean_accuracies(both, [pairs, others]).std()
    assert drawn_mean_accuracies(both, [pairs, apart]).std() < linked


def test_many_pairs_are_weighted_in_bounded_memory():
    cosines, same, left, right = listed(200_000, 20_000)
    statistics = [
        ten_fold_accuracy(2 - 2 * cosines, same, left, right),
        area_and_equal_error(listed_scores(cosines, same, left, right)),
    ]
    weights = np.ones((100, 20_000), np.float32)
    with traced_memory() as memory:
        for statistic in statistics:
            statistic(weights)
    assert memory.peak < 250 << 20
