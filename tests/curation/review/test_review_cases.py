"""The cases of a review, and the order in which they are shown."""

import math

import numpy as np
import pytest
from planted_findings import finding, write_findings

from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE
from curation.review.order import expected_information, review_order
from curation.review.review import Review
from curation.store import Store
from tests.curation.review.review_harness import decide, open_review


class TestOrder:
    def slow(self, scores: list[float], images: list[int]) -> list[int]:
        def information(place: int) -> float:
            p = scores[place]
            bits = sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)
            return bits * math.log2(1 + images[place])

        return sorted(range(len(scores)), key=lambda place: (-round(information(place), 9), place))

    def test_it_equals_a_slow_reference(self):
        random = np.random.default_rng(1)
        scores = np.concatenate([random.uniform(0.5, 1, 300), [0, 1, 0.5, 0.5]]).round(3)
        images = np.concatenate([random.integers(1, 5000, 300), [9, 9, 7, 7]])
        order = review_order(scores, images)
        assert order.tolist() == self.slow(scores.tolist(), images.tolist())

    def test_doubt_and_large_identities_come_first(self):
        assert review_order(np.array([0.99, 0.6, 0.6]), np.array([50, 50, 500])).tolist() == [
            2,
            1,
            0,
        ]

    def test_certain_cases_have_no_information(self):
        assert expected_information(np.array([0.0, 1.0]), np.array([10, 10])).tolist() == [0, 0]


class TestCases:
    def test_a_pair_of_identities_is_asked_about_once(self, folder, clock):
        images = Store(folder / "train.lmdb")
        both = finding(
            *("divided", "identity", [0.9, 0.8, 0, 0, 0, 0], 2),
            other_identity=[1, 0, 3, 2, 5, 4],
            similarity=[0.7] * 6,
        )
        write_findings(images, [both])
        review = open_review(folder, clock)
        assert [review.is_open(case) for case in range(2)] == [True, False]
        decide(review, "divided-0", "reject")
        assert review.progress().open == 0

    def test_every_flag_is_a_case(self, review: Review):
        flagged = {one.check: int(one.flagged.sum()) for one in review.cases.findings}
        keys = [review.cases.key(case) for case in range(len(review.cases))]
        assert len(set(keys)) == sum(flagged.values()) == 14
        assert [review.cases.find(key) for key in keys] == list(range(14))

    def test_a_case_has_its_identity_and_its_rival(self, review: Review):
        case = review.look("misplaced-47")
        assert (review.cases.identity[case], review.cases.rival[case]) == (5, 0)
        assert review.cases.size[case] == 16

    def test_a_wrong_key_is_an_error(self, review: Review):
        of_others = ("misplaced-1", "nothing-1", "misplaced", "", "misplaced-99999999999999999999")
        for key in (*of_others, "misplaced-047", "misplaced-0000000000000047123"):
            with pytest.raises(UserError, match="there is no case"):
                review.look(key)

    def test_a_line_edited_in_the_table_is_settled(self, folder, clock):
        table = folder / "train.findings" / DECISIONS_FILE
        table.write_text(table.read_text().replace("yes\tdrop\t47\t", "no\tdrop\t47\t"))
        review = open_review(folder, clock)
        assert not review.is_open(review.look("misplaced-47"))
        assert review.progress().settled == 1
