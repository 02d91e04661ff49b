"""Likelihood ratios and priors, on data whose true values are known."""

import numpy as np
import pytest

from curation.noise.calibration import (
    fit_cosine_ratio,
    fit_most,
    fit_ratio,
    probabilities,
    size_class,
)

RANDOM = 7


def test_two_normal_distributions_give_their_log_ratio() -> None:
    random = np.random.default_rng(RANDOM)
    sound, faulty = random.normal(1, 1, (20_000, 1)), random.normal(-1, 1, (20_000, 1))
    asked = np.linspace(-2, 2, 9)[:, None]
    # log N(x; -1, 1) - log N(x; 1, 1) = -2 x
    np.testing.assert_allclose(fit_ratio(sound, faulty)(asked), -2 * asked[:, 0], atol=0.15)


def test_the_numbers_of_examples_are_not_evidence() -> None:
    random = np.random.default_rng(RANDOM)
    sound, faulty = random.normal(1, 1, (30_000, 1)), random.normal(-1, 1, (1_000, 1))
    assert abs(fit_ratio(sound, faulty)(np.zeros((1, 1)))[0]) < 0.2


def test_separable_features_give_a_finite_ratio() -> None:
    ratio = fit_ratio(np.ones((50, 2)), -np.ones((50, 2)))
    low, high = ratio(np.array([[1.0, 1.0], [-1.0, -1.0]]))
    assert np.isfinite([low, high]).all()
    assert low < -3
    assert high > 3


@pytest.mark.parametrize(("sound", "faulty"), [(0, 5), (5, 0), (0, 0)])
def test_without_examples_there_is_no_evidence(sound: int, faulty: int) -> None:
    ratio = fit_ratio(np.ones((sound, 3)), np.zeros((faulty, 3)))
    np.testing.assert_array_equal(ratio(np.arange(6.0).reshape(2, 3)), 0)


def test_a_constant_feature_is_not_evidence() -> None:
    random = np.random.default_rng(RANDOM)
    informative = random.normal(size=(400, 1)) + np.repeat([1, -1], 200)[:, None]
    features = np.column_stack([informative, np.full(400, 3.0)])
    ratio = fit_ratio(features[:200], features[200:])
    np.testing.assert_allclose(ratio(np.array([[0.5, 3]])), ratio(np.array([[0.5, 3]])))
    assert abs(ratio.weights[1]) < 1e-6


def test_balanced_groups_are_not_evidence() -> None:
    """Errors are simulated in group 1, data are mostly in group 0; the feature equals the group."""
    random = np.random.default_rng(RANDOM)
    sound_groups = (random.random(4_000) < 0.1).astype(np.int64)
    faulty_groups = (random.random(4_000) < 0.9).astype(np.int64)
    sound, faulty = sound_groups[:, None] * 1.0, faulty_groups[:, None] * 1.0
    asked = np.array([[0.0], [1.0]])
    assert fit_ratio(sound, faulty)(asked)[1] > 2
    balanced = fit_ratio(sound, faulty, sound_groups, faulty_groups)(asked)
    np.testing.assert_allclose(balanced, 0, atol=0.05)


def test_groups_on_one_side_only_do_not_count() -> None:
    random = np.random.default_rng(RANDOM)
    sound, faulty = random.normal(1, 1, (2_000, 1)), random.normal(-1, 1, (2_000, 1))
    strange = np.full((500, 1), -4.0)
    ratio = fit_ratio(
        np.concatenate([sound, strange]),
        faulty,
        np.repeat([0, 1], [2_000, 500]),
        np.zeros(2_000, np.int64),
    )
    np.testing.assert_allclose(ratio(np.array([[1.0], [-1.0]])), [-2, 2], atol=0.4)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.4])
def test_the_prior_is_estimated_from_the_data(share: float) -> None:
    random = np.random.default_rng(RANDOM)
    faulty = random.random(20_000) < share
    value = random.normal(np.where(faulty, -1.5, 1.5))
    found = probabilities(-3 * value)
    assert found.mean() == pytest.approx(share, abs=0.01)
    # Calibrated: of those with a probability of about 0.7, about 70 % are wrong.
    near = np.abs(found - 0.7) < 0.1
    assert faulty[near].mean() == pytest.approx(0.7, abs=0.1)


def test_each_group_has_its_own_prior() -> None:
    random = np.random.default_rng(RANDOM)
    groups = np.repeat([0, 2], 10_000)
    faulty = random.random(20_000) < np.where(groups == 0, 0.02, 0.3)
    value = random.normal(np.where(faulty, -1.5, 1.5))
    found = probabilities(-3 * value, groups)
    assert found[groups == 0].mean() == pytest.approx(0.02, abs=0.01)
    assert found[groups == 2].mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("value", [-1e6, -1.0, 0.0, 1.0, 1e6])
def test_probabilities_are_between_0_and_1_for_any_evidence(value: float) -> None:
    found = probabilities(np.full(50, value))
    assert ((found >= 0) & (found <= 1)).all()
    assert probabilities(np.zeros(0)).shape == (0,)


def test_without_evidence_a_small_doubt_remains() -> None:
    np.testing.assert_allclose(probabilities(np.zeros(100)), 0.1, atol=1e-6)


def test_errors_in_the_data_do_not_spoil_the_fit() -> None:
    random = np.random.default_rng(RANDOM)
    truth = np.repeat([False, True], [900, 100])
    features = random.normal(np.where(truth, -2.0, 2.0))[:, None]
    made = random.normal(-2, 1, (500, 1))
    _, found = fit_most(features, made, features[:, 0])
    assert ((found > 0.5) == truth).mean() > 0.97


def test_few_positives_among_hard_negatives_do_not_matter() -> None:
    random = np.random.default_rng(RANDOM)
    hard_negatives = 0.3 + random.exponential(0.03, 5_000)
    same = random.normal(0.8, 0.05, 2_000)
    classes = np.zeros(2_000, np.int64)
    asked, first = np.array([0.4, 0.55, 0.75]), np.zeros(3, np.int64)
    clean = fit_cosine_ratio(hard_negatives, same, classes)
    spoilt = fit_cosine_ratio(np.concatenate([hard_negatives, same[:400]]), same, classes)
    assert clean(asked, first)[0] < 0 < clean(asked, first)[2]
    np.testing.assert_array_equal(spoilt(asked, first) > 0, clean(asked, first) > 0)


def test_a_cosine_above_the_median_counts_like_the_median() -> None:
    random = np.random.default_rng(RANDOM)
    ratio = fit_cosine_ratio(
        random.exponential(0.03, 999), random.normal(0.7, 0.05, 999), np.zeros(999, np.int64)
    )
    log_ratio = ratio(np.linspace(0.5, 1.0, 20), np.zeros(20, np.int64))
    assert (np.diff(log_ratio) > 0).all()


def test_small_classes_borrow_from_the_next_smaller_one() -> None:
    random = np.random.default_rng(RANDOM)
    same, classes = random.normal(0.8, 0.05, 1_000), np.zeros(1_000, np.int64)
    classes[:3], same[:3] = 1, 0.2
    ratio = fit_cosine_ratio(random.exponential(0.03, 999), same, classes)
    assert abs(ratio.mean[1] - ratio.mean[0]) < 0.01
    assert np.isfinite(ratio.spread).all()


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (0, 0),
        (0.3, 0),
        (1, 0),
        (2, 1),
        (3, 1),
        (3.99, 1),
        (4, 2),
        (7, 2),
        (8, 3),
        (128, 7),
        (9e9, 7),
    ],
)
def test_size_classes_double(images: float, found: int) -> None:
    assert size_class(np.array([images]))[0] == found


@pytest.mark.parametrize("shares", [(0.02, 0.1), (0.1, 0.02), (0.0, 0.05), (0.05, 0.0)])
def test_two_kinds_of_faults_have_their_own_prevalence(shares: tuple[float, float]) -> None:
    """Sound data around 3, errors of the first kind around 0, of the second around 6."""
    random = np.random.default_rng(RANDOM)
    kind = np.searchsorted(np.cumsum(shares), random.random(20_000), "right")
    value = random.normal(np.array([0.0, 6.0, 3.0])[kind])
    log_ratios = np.column_stack(
        [4.5 - 3 * value, 3 * value - 13.5]
    )  # of N(0, 1), N(6, 1) to N(3, 1)

    found = probabilities(log_ratios)

    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        here = (found > low) & (found < high)
        assert (kind[here] < 2).mean() == pytest.approx(found[here].mean(), abs=0.1)
    assert found.sum() == pytest.approx((kind < 2).sum(), rel=0.1)


def test_an_impossible_kind_does_not_count() -> None:
    random = np.random.default_rng(RANDOM)
    evidence = random.normal(-2, 3, 2_000)
    never = np.column_stack([evidence, np.full(len(evidence), -np.inf)])
    np.testing.assert_allclose(probabilities(never), probabilities(evidence), atol=0.02)
