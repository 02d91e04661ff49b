"""The measured calibration of the checks."""

import pytest

from curation.review.confirmed import measured_calibration
from curation.review.events import ReviewEvent
from tests.curation.review.review_harness import decide


class TestCalibration:
    def event(self, number: int, score: float, confirmed: bool | None) -> ReviewEvent:
        return ReviewEvent(
            *(f"e{number}", "", "ada", f"mixed-{number}", "mixed-12", score, "accept", confirmed)
        )

    def test_it_compares_scores_with_confirmations(self):
        events = [self.event(n, 0.9 + 0.001 * (n % 2), n % 8 != 0) for n in range(40)]
        (share,) = measured_calibration(events)
        assert (share.called, share.confirmed, share.decided) == (
            pytest.approx(0.9005),
            35 / 40,
            40,
        )
        assert str(share).startswith("mixed scored 0.90, you confirmed 0.88 (40 decided")
        assert share.low < 35 / 40 < share.high

    def test_it_ignores_few_or_unsure_decisions(self):
        assert measured_calibration([self.event(n, 0.9, True) for n in range(19)]) == []
        assert measured_calibration([self.event(n, 0.9, None) for n in range(99)]) == []

    def test_a_change_confirms_if_it_affects_the_subject(self, review):
        moved = decide(review, "misplaced-47", "change", ("move 47 5 2",))
        other = decide(review, "misplaced-46", "change", ("drop 40 5",))
        assert (moved.confirmed, other.confirmed) == (True, False)
