"""Decisions are attributed, bound to their findings, and can be undone."""

import json

import pytest

from curation.errors import UserError
from curation.noise.clean import apply_decisions
from curation.review.outcome import cleaning_effect
from curation.review.refusals import StaleError
from tests.curation.review.review_harness import applied, decide, log_lines


class TestDecisions:
    def test_a_decision_is_a_complete_line_of_the_log(self, review, folder):
        identity = review.cases.findings[0].identity
        review.decide("ada-1", "  Ada   Lovelace ", "misplaced-47", identity, 0, "accept")
        (line,) = map(json.loads, log_lines(folder))
        assert line == {
            "id": "ada-1",
            "at": "2027-01-15T08:00:00.000Z",
            "who": "Ada Lovelace",
            "case": "misplaced-47",
            "findings": identity,
            "score": pytest.approx(47 / 48, abs=1e-4),
            "choice": "accept",
            "confirmed": True,
            "proposed": ["drop 47 5"],
            "lines": ["drop 47 5"],
        }

    def test_a_decided_case_is_no_longer_open(self, review):
        before = review.next_cases("ada", 99)
        decide(review, "misplaced-47", "reject")
        assert set(before) - set(review.next_cases("ada", 99)) == {review.look("misplaced-47")}

    def test_the_outcome_follows_the_decisions(self, review):
        assert "drop 47 5" in applied(review)
        decide(review, "misplaced-47", "reject")
        decide(review, "misplaced-46", "change", ("move 46 5 2", "drop 40 5"))
        decide(review, "overlap-5", "accept")
        assert applied(review) >= {"move 46 5 2", "drop 40 5", "drop-identity 5"}
        assert not applied(review) & {"drop 47 5", "drop 46 5"}
        left = cleaning_effect(review.images.labels, review.decisions())
        assert (left.images_before, left.identities_before) == (48, 6)
        assert left.identities == 4  # without 5, and 0 is merged into 1

    def test_decisions_on_other_cases_close_cases_too(self, review):
        assert review.is_open(review.look("misplaced-47"))
        event = decide(review, "overlap-5", "accept")
        assert not review.is_open(review.look("misplaced-47"))
        review.undo("back", "ada", event.id)
        assert review.is_open(review.look("misplaced-47"))

    def test_a_split_gets_an_unused_part(self, review):
        decide(review, "misplaced-47", "change", ("split 47 5 0", "split 46 5 0"))
        decide(review, "misplaced-45", "change", ("split 45 5 0",))
        assert applied(review) >= {"split 47 5 1", "split 46 5 1", "split 45 5 2"}
        labels = apply_decisions(review.images.labels, review.decisions())
        assert labels[47] == labels[46] != labels[45]

    def test_the_direction_of_a_merge_can_be_changed(self, review):
        decide(review, "divided-0", "change", ("merge 1 0",))
        assert "merge 1 0" in applied(review)
        assert "merge 0 1" not in applied(review)

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            (("drop 47 4",), "image 47 is of identity 5"),
            (("drop 48 5",), "no image 48"),
            (("move 47 5 6",), "no identity 6"),
            (("move 47 5 5",), "in identity 5 already"),
            (("merge 5 5",), "in identity 5 already"),
            (("drop 47 5", "move 47 5 2"), "contradict each other"),
            (("burn 47 5",), "does not begin with one of"),
            (("split 47 7 0",), "no identity 7"),
            (("move 47 5",), "is not move IMAGE IDENTITY INTO"),
            (("drop 47 -5",), "is not drop IMAGE IDENTITY"),
        ],
    )
    def test_invalid_decisions_are_refused(self, review, folder, lines, said):
        with pytest.raises(UserError, match=said):
            decide(review, "misplaced-47", "change", lines)
        assert log_lines(folder) == []

    @pytest.mark.parametrize("name", ["", "  ", "a" * 65, "a\x1b[2Jb"])
    def test_a_reviewer_has_a_name(self, review, name):
        with pytest.raises(UserError, match="is not a reviewer's name"):
            review.next_cases(name, 1)

    def test_cyclic_merges_are_refused(self, review):
        decide(review, "divided-0", "accept")
        with pytest.raises(UserError, match="already merged into identity 1"):
            decide(review, "misplaced-47", "change", ("merge 1 0",))

    def test_an_undo_cannot_create_cyclic_merges(self, review):
        merged = decide(review, "divided-0", "accept")
        review.undo("u1", "ada", merged.id)
        decide(review, "misplaced-47", "change", ("merge 1 0",))
        with pytest.raises(UserError, match="already"):
            review.undo("u2", "ada", "u1")


class TestUndo:
    def test_every_event_can_be_undone_including_an_undo(self, review):
        first = decide(review, "misplaced-47", "reject")
        second = decide(review, "misplaced-47", "accept")
        assert review.decision(review.look("misplaced-47")) == second
        review.undo("u1", "bob", second.id)
        assert review.decision(review.look("misplaced-47")) == first
        review.undo("u2", "bob", "u1")
        assert review.decision(review.look("misplaced-47")) == second
        review.undo("u3", "bob", "u2")
        review.undo("u4", "bob", first.id)
        assert review.is_open(review.look("misplaced-47"))
        assert [event.id for _, event in review.history(3)] == ["u4", "u3", "u2"]

    def test_an_undone_event_cannot_be_undone_again(self, review):
        event = decide(review, "misplaced-47", "reject")
        review.undo("u1", "bob", event.id)
        with pytest.raises(StaleError, match="was undone by bob"):
            review.undo("u2", "ada", event.id)

    def test_undoing_an_unknown_event_is_refused(self, review):
        with pytest.raises(UserError, match="there is no event 'x'"):
            review.undo("u", "ada", "x")
