"""Area under the ROC and equal error rate, against loops over every pair and threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.curves import area_under_roc, equal_error_rate

SCORES = st.lists(st.integers(-5, 5).map(lambda tenths: tenths / 5), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(genuine=SCORES, impostors=SCORES)
def test_the_area_is_the_share_of_pairs_in_the_right_order(genuine, impostors):
    wins = [(g > i) + 0.5 * (g == i) for g in genuine for i in impostors]
    found = area_under_roc(np.array(genuine), np.array(impostors))
    assert found == pytest.approx(np.mean(wins))


@settings(max_examples=100, deadline=None)
@given(genuine=SCORES, impostors=SCORES)
def test_the_equal_error_rate_is_the_best_of_all_thresholds(genuine, impostors):
    rates = [
        max(np.mean([i > t for i in impostors]), np.mean([g <= t for g in genuine]))
        for t in [-2.0, *genuine, *impostors]
    ]
    found = equal_error_rate(np.array(genuine), np.array(impostors))
    assert found == pytest.approx(min(rates))


def test_separated_scores_have_no_error():
    genuine, impostors = np.array([0.5, 0.6]), np.array([0.1, 0.4])
    assert area_under_roc(genuine, impostors) == 1
    assert equal_error_rate(genuine, impostors) == 0
