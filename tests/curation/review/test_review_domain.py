"""A review: decisions are durable, attributed, bound to their findings, and can be undone."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_findings import all_findings, finding, write_findings

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.noise.clean import apply_decisions
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.noise.findings import Findings
from curation.review.confirmed import measured_calibration
from curation.review.events import MOST_LINES, ReviewEvent
from curation.review.incoming import read_decided
from curation.review.log import DECISIONS_LOG, DecisionLog
from curation.review.order import expected_information, review_order
from curation.review.outcome import decisions_to_carry_out, what_is_left
from curation.review.refusals import StaleError
from curation.review.review import Review
from curation.store import Store


@pytest.fixture(scope="module")
def people(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    store = convert(drawn_folder, folder / "train.lmdb")
    write_findings(store, all_findings(store), {"one": "", "two": ""})
    return folder


@pytest.fixture
def folder(people: Path, tmp_path: Path) -> Path:
    """A copy of the store and its findings, without any review."""
    return Path(shutil.copytree(people, tmp_path / "people"))


class Clock:
    """A clock that a test controls."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_review(folder: Path, clock: Clock) -> Review:
    return Review(Store(folder / "train.lmdb"), Findings(folder / "train.findings"), clock)


@pytest.fixture
def review(folder: Path, clock: Clock) -> Review:
    return open_review(folder, clock)


def decide(
    review: Review,
    key: str,
    choice: str,
    lines: tuple[str, ...] = (),
    who: str = "ada",
    **more: int,
) -> ReviewEvent:
    """Decide as somebody who has just looked, or who looked at ``seen``."""
    case = review.look(key)
    findings = review.cases.findings[review.cases.check[case]].identity
    seen = more.get("seen", review.refresh())
    name = f"{who}-{key}-{len(review.standing)}"
    return review.decide(name, who, key, findings, seen, choice, lines)  # type: ignore[arg-type]


def log_lines(folder: Path) -> list[bytes]:
    return (folder / "train.findings" / DECISIONS_LOG).read_bytes().splitlines()


def applied(review: Review) -> set[str]:
    return {line.proposal for line in review.decisions() if line.apply}


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
        for key in ("misplaced-1", "nothing-1", "misplaced", "", "misplaced-99999999999999999999"):
            with pytest.raises(UserError, match="there is no case"):
                review.look(key)

    def test_a_line_edited_in_the_table_is_settled(self, folder, clock):
        table = folder / "train.findings" / DECISIONS_FILE
        table.write_text(table.read_text().replace("yes\tdrop\t47\t", "no\tdrop\t47\t"))
        review = open_review(folder, clock)
        assert not review.is_open(review.look("misplaced-47"))
        assert review.progress().settled == 1


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
        left = what_is_left(review.images.labels, review.decisions())
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


class TestTwoReviewers:
    """Two processes, each with its own review of one folder."""

    def test_they_get_different_cases(self, folder, clock):
        ada, bob = open_review(folder, clock), open_review(folder, clock)
        first, second = ada.next_cases("ada", 3), bob.next_cases("bob", 3)
        assert len({*first, *second}) == 6
        assert bob.holder(first[0]) == "ada"
        assert ada.next_cases("ada", 3) == first

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


class TestLog:
    def test_unreadable_events_are_not_written(self, folder, clock):
        review = open_review(folder, clock)
        event = decide(review, "misplaced-47", "reject")
        log = DecisionLog(folder / "train.findings" / DECISIONS_LOG)
        lines = tuple(f"drop {image} 0" for image in range(MOST_LINES + 1))
        with log.alone(), pytest.raises(UserError, match="cannot be saved: lines: must"):
            log.append(replace(event, id="large", lines=lines))
        assert open_review(folder, clock).progress().decided == 1

    def test_an_incomplete_line_is_ignored_and_removed(self, folder, clock):
        review = open_review(folder, clock)
        decide(review, "misplaced-47", "reject")
        path = folder / "train.findings" / DECISIONS_LOG
        with path.open("ab") as file:
            file.write(log_lines(folder)[0][:70])
        again = open_review(folder, clock)
        assert again.progress().decided == 1
        decide(again, "misplaced-46", "reject")
        assert open_review(folder, clock).progress().decided == 2
        assert len(log_lines(folder)) == 2

    @pytest.mark.parametrize(
        "line",
        [
            b"no json",
            b"{}",
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1"}',
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1",'
            b'"choice":"accept","lines":["drop x y"]}',
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1",'
            b'"choice":"burn"}',
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1",'
            b'"choice":"accept","more":1}',
            b"[" * 100_000,
            b'"\\ud800"',
            b"\xff\xfe",
        ],
    )
    def test_a_damaged_line_is_named(self, folder, clock, line):
        path = folder / "train.findings" / DECISIONS_LOG
        path.write_bytes(line + b"\n")
        with pytest.raises(UserError, match=r"jsonl line 1 is damaged: .*; correct") as said:
            open_review(folder, clock)
        assert len(str(said.value)) < 700

    def test_a_log_that_is_a_pipe_is_refused(self, folder, clock):
        os.mkfifo(folder / "train.findings" / DECISIONS_LOG)
        with pytest.raises(UserError, match="named pipe"):
            open_review(folder, clock)

    def test_a_removed_log_is_detected(self, review, folder):
        decide(review, "misplaced-47", "reject")
        (folder / "train.findings" / DECISIONS_LOG).unlink()
        with pytest.raises(UserError, match="removed or replaced"):
            decide(review, "misplaced-46", "reject")

    def test_decisions_of_earlier_findings_are_set_aside(self, review, folder, clock):
        decide(review, "misplaced-47", "reject")
        path = folder / "train.findings" / DECISIONS_LOG
        known = review.cases.findings[0].identity.encode()
        path.write_bytes(path.read_bytes().replace(known, b"misplaced-0123456789ab"))
        again = open_review(folder, clock)
        assert again.is_open(again.look("misplaced-47"))
        assert again.progress().set_aside == 1

    def test_a_killed_writer_loses_no_acknowledged_decision(self, folder):
        script = (
            "import sys; from pathlib import Path\n"
            "from curation.noise.findings import Findings\n"
            "from curation.review.review import Review\n"
            "from curation.store import Store\n"
            "folder = Path(sys.argv[1])\n"
            "review = Review(Store(folder / 'train.lmdb'), Findings(folder / 'train.findings'))\n"
            "for n in range(10**6):\n"
            "    case = review.look('misplaced-47')\n"
            "    identity = review.cases.findings[0].identity\n"
            "    review.decide(f'{sys.argv[2]}-{n}', 'ada', 'misplaced-47', identity, 1 << 40,"
            " 'unsure')\n"
            "    print(n, flush=True)\n"
        )
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(folder), name], stdout=subprocess.PIPE, text=True
            )
            for name in ("a", "b")
        ]
        told = 0
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(20):
                told += bool(writer.stdout.readline())
        for writer in writers:
            writer.kill()
            told += len((writer.stdout.read() if writer.stdout else "").splitlines())
            writer.wait()
            if writer.stdout:
                writer.stdout.close()
        review = open_review(folder, Clock())
        assert 40 <= told <= len(review.standing) <= told + 2
        decide(review, "misplaced-46", "accept")
        lines = log_lines(folder)
        assert len({json.loads(line)["id"] for line in lines}) == len(lines)


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
