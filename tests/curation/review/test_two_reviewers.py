"""Several reviewers at once: leases, stale decisions, conflicts, imported decisions."""

import shutil
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.review.incoming import read_decided
from curation.review.log import DECISIONS_LOG
from curation.review.outcome import decisions_to_carry_out
from curation.review.refusals import StaleError
from curation.store import Store
from tests.curation.review.review_harness import applied, decide, log_lines, open_review


class TestTwoReviewers:
    """Two processes, each with its own review of one folder."""

    def test_they_get_different_cases(self, folder, clock):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        first, second = ada.next_cases("ada", 3), bob.next_cases("bob", 3)
        assert len({*first, *second}) == 6
        assert bob.holder(first[0]) == "ada"
        assert ada.next_cases("ada", 3) == first

    def test_a_case_put_off_comes_last_and_is_free_for_others(self, folder, clock):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        everything = ada.next_cases("ada", 99)
        later = [ada.cases.key(everything[0]), ada.cases.key(everything[2])]
        assert ada.next_cases("ada", 1, later=later) == [everything[1]]
        assert bob.next_cases("bob", 1) == [everything[0]]
        bob.next_cases("bob", 0)
        others = [case for case in everything if ada.cases.key(case) not in later]
        assert ada.next_cases("ada", 99, later=later[::-1]) == [
            *others,
            everything[2],
            everything[0],
        ]

    def test_a_lease_ends(self, folder, clock):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        first = ada.next_cases("ada", 3)
        clock.seconds += 200
        assert bob.next_cases("bob", 3) == first

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": ["b", 1e300]}'])
    def test_damaged_leases_are_ignored(self, folder, clock, content):
        (folder / "train.findings/leases.json").write_bytes(content)
        assert open_review(folder, clock).next_cases("ada", 1)

    def test_they_see_each_others_decisions(self, folder, clock):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        event = decide(ada, "misplaced-47", "reject")
        bob.refresh()
        assert bob.decision(bob.look("misplaced-47")) == event

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (("misplaced-47", "reject", ()), ("misplaced-47", "accept", ())),
            (("overlap-5", "accept", ()), ("misplaced-47", "reject", ())),
            (("misplaced-47", "accept", ()), ("overlap-5", "accept", ())),
            (("divided-0", "accept", ()), ("misplaced-47", "change", ("move 47 5 0",))),
            (("misplaced-47", "change", ("drop 3 0",)), ("divided-0", "accept", ())),
        ],
    )
    def test_a_stale_decision_is_refused(self, folder, clock, first, second):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        seen = bob.refresh()
        decide(ada, *first)
        with pytest.raises(StaleError, match="meanwhile ada"):
            decide(bob, *second, who="bob", seen=seen)
        assert len(log_lines(folder)) == 1
        decide(bob, *second, who="bob")  # after looking again

    def test_a_decision_on_other_subjects_is_not_stale(self, folder, clock):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        seen = bob.refresh()
        decide(ada, "misplaced-47", "accept")
        decide(bob, "misplaced-46", "accept", who="bob", seen=seen)
        assert len(log_lines(folder)) == 2

    def test_a_decision_on_other_findings_is_refused(self, review, folder):
        with pytest.raises(StaleError, match="other findings"):
            review.decide("a", "ada", "misplaced-47", "misplaced-0123456789ab", 0, "accept")

    def test_recomputed_findings_require_reopening(self, review, folder):
        meta = folder / "train.findings/findings.json"
        meta.write_bytes(meta.read_bytes() + b"\n")
        with pytest.raises(StaleError, match="open it again"):
            decide(review, "misplaced-47", "accept")

    def test_the_same_event_twice_counts_once(self, review, folder):
        findings = review.cases.findings[0].identity
        for _ in range(2):
            review.decide("once", "ada", "misplaced-47", findings, 0, "accept")
        assert len(log_lines(folder)) == 1


class TestConflicts:
    def test_contradictions_are_listed_and_resolved(self, review, folder):
        kept = decide(review, "misplaced-46", "change", ("move 46 5 2", "drop 41 5"))
        other = decide(review, "misplaced-47", "change", ("drop 46 5", "drop 40 5"), who="bob")
        (conflict,) = review.conflicts()
        assert conflict.about == (None, 46)
        assert set(conflict.events) == {kept, other}
        images = Store(folder / "train.lmdb")
        with pytest.raises(UserError, match="reviewers contradict each other"):
            decisions_to_carry_out(None, [], images, folder / "train.findings")
        review.settle("s", "cleo", conflict, kept.id)
        assert review.conflicts() == []
        assert applied(review) >= {"move 46 5 2", "drop 41 5", "drop 40 5"}
        assert "drop 46 5" not in applied(review)
        with pytest.raises(StaleError, match="settled"):
            review.settle("t", "cleo", conflict, kept.id)

    def test_a_contradicting_table_is_a_conflict(self, review, folder):
        mine = decide(review, "misplaced-47", "reject")
        table = folder / "override.tsv"
        identity = review.cases.findings[0].identity
        line = Decision("drop", 5, 47, check="misplaced", score=0.9, findings=identity)
        write_decisions(table, review.images.digest, [line])
        read = read_decided(review, table, "bob")
        assert (read.decided, read.conflicts) == (1, 1)
        assert review.decision(review.look("misplaced-47")) == mine
        (conflict,) = review.conflicts()
        review.settle("s", "ada", conflict, conflict.events[1].id)
        assert review.conflicts() == []
        assert "drop 47 5" in applied(review)


class TestIncoming:
    def test_an_old_table_is_imported_once(self, review, folder):
        table = folder / "old.tsv"
        shutil.copy(folder / "train.findings" / DECISIONS_FILE, table)
        text = table.read_text().replace("yes\tdrop\t47\t", "no\tdrop\t47\t")
        table.write_text(text.replace("\nyes\tmerge", "\nno\tmerge"))
        first, again = (read_decided(review, table, "bob") for _ in range(2))
        lines = len(text.splitlines()) - 2
        assert (first.decided, first.known, first.conflicts) == (lines, 0, 0)
        assert (again.decided, again.known) == (0, lines)
        assert "drop 47 5" not in applied(review)
        images = review.images.digest
        carried = decisions_to_carry_out(
            None, [], Store(folder / "train.lmdb"), folder / "train.findings"
        )
        wanted = read_decisions(table, images)
        assert {(d.proposal, d.apply) for d in carried} == {(d.proposal, d.apply) for d in wanted}

    def test_the_log_of_another_review_is_imported(self, folder, tmp_path, clock):
        other = Path(shutil.copytree(folder, tmp_path / "other"))
        there = open_review(other, clock)
        undone = decide(there, "misplaced-46", "reject", who="bob")
        there.undo("u", "bob", undone.id)
        decide(there, "misplaced-47", "reject", who="bob")
        here = open_review(folder, clock)
        read = read_decided(here, other / "train.findings" / DECISIONS_LOG, "ada")
        assert read.decided == 1
        found = here.decision(here.look("misplaced-47"))
        assert found is not None
        assert found.who == "bob"

    def test_a_table_of_other_findings_is_refused(self, review, folder):
        line = Decision("drop", 5, 47, check="misplaced", findings="misplaced-0123")
        write_decisions(folder / "old.tsv", review.images.digest, [line])
        with pytest.raises(UserError, match="other findings"):
            read_decided(review, folder / "old.tsv", "bob")
