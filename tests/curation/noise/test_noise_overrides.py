"""Combining tables: precedence, contradictions, and decisions on other findings."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_findings import finding, write_findings

from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.noise.findings import Findings, findings_folder
from curation.noise.overrides import (
    chosen_decisions,
    override_decisions,
    refuse_contradictions,
)
from curation.noise.proposals import PROPOSED_FILE, follow_proposals
from curation.review.log import DECISIONS_LOG
from curation.review.outcome import decisions_to_carry_out
from curation.store import Store

Chosen = Callable[..., list[Decision]]


def test_an_override_replaces_lines_about_the_same_subject() -> None:
    table = [
        Decision("drop", 0, 3),
        Decision("move", 0, 4, 2),
        Decision("merge", 0, into=1),
        Decision("merge", 5, into=6),
    ]
    changes = [Decision("drop", 0, 4), Decision("merge", 5, into=6, apply=False)]
    assert override_decisions(table, changes) == [table[0], table[2], *changes]


def test_an_override_adds_lines_and_an_empty_one_changes_nothing() -> None:
    table = [Decision("drop", 0, 3)]
    assert override_decisions(table, []) == table
    added = Decision("drop-identity", 9)
    assert override_decisions(table, [added]) == [*table, added]


@pytest.fixture
def choose(drawn_store: Store, tmp_path: Path) -> Chosen:
    """Write the table and overrides a.tsv, b.tsv, ..., and read them like ``curate clean``."""

    def choose(table: list[Decision], *overrides: list[Decision]) -> list[Decision]:
        paths = [tmp_path / f"{letter}.tsv" for letter, _ in zip("abc", overrides, strict=False)]
        for path, lines in zip([tmp_path / "table.tsv", *paths], [table, *overrides], strict=True):
            write_decisions(path, drawn_store.digest, lines)
        return chosen_decisions(
            tmp_path / "table.tsv", paths, drawn_store, tmp_path / "none.findings"
        )

    return choose


def test_all_overrides_count(choose: Chosen) -> None:
    table = [Decision("drop", 0, 1), Decision("drop", 0, 2), Decision("drop", 0, 3)]
    first = [Decision("drop", 0, 1, apply=False)]
    second = [Decision("move", 0, 2, 4), Decision("drop", 0, 1, apply=False)]
    assert choose(table, first, second) == [table[2], first[0], second[0]]


YES, NO = Decision("drop", 0, 1), Decision("drop", 0, 1, apply=False)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (YES, NO, "image 1"),
        (Decision("move", 0, 1, 2), Decision("move", 0, 1, 3), "image 1"),
        (Decision("move", 0, 1, 2), YES, "image 1"),
        (Decision("split", 0, 1, 1), Decision("split", 0, 1, 2), "image 1"),
        (Decision("split", 0, 1, 1), Decision("move", 0, 1, 1), "image 1"),
        (Decision("merge", 4, into=1), Decision("merge", 4, into=2), "identity 4"),
        (Decision("merge", 4, into=1), Decision("merge", 4, into=1, apply=False), "identity 4"),
        (Decision("drop-identity", 4), Decision("drop-identity", 4, apply=False), "identity 4"),
        (
            Decision("drop", 0, 1, check="unusable"),
            Decision("drop", 0, 1, apply=False),
            "image 1",
        ),
    ],
)
def test_contradictions_are_listed_with_their_places(
    choose: Chosen, first: Decision, second: Decision, named: str
) -> None:
    other = Decision("drop", 0, 9)
    lines = rf"contradict each other.*\n  {named}: "
    with pytest.raises(UserError, match=rf"{lines}.*a\.tsv line 4 \(.*b\.tsv line 3 \("):
        choose([], [other, first], [second])
    with pytest.raises(UserError, match=rf"{lines}.*a\.tsv line 3 \(.*a\.tsv line 4 \("):
        choose([], [first, second])
    with pytest.raises(UserError, match=rf"{lines}.*table\.tsv line 3 \(.*table\.tsv line 4 \("):
        choose([first, second])


def test_every_contradiction_is_listed(choose: Chosen) -> None:
    table = [Decision("drop", 0, image) for image in range(40)]
    against = [Decision("drop", 0, image, apply=False) for image in range(40)]
    with pytest.raises(UserError) as refusal:
        choose([], table, against)
    assert str(refusal.value).count("\n  image ") == 40


@pytest.mark.parametrize(
    "lines",
    [
        [YES, YES],
        [YES, Decision("drop", 0, 1, note="seen by two people", score=0.5)],
        [Decision("drop", 0, 1, check="duplicate"), Decision("drop", 0, 1, check="unusable",
                                                             apply=False)],
        [NO, Decision("move", 0, 1, 2)],
        [YES, Decision("split", 0, 1, 1)],
        [Decision("merge", 4, into=1), Decision("drop-identity", 4)],
        [Decision("merge", 4, into=1), Decision("merge", 5, into=1)],
        [Decision("drop", 0, 1), Decision("drop-identity", 0)],
    ],
    ids=str,
)  # fmt: skip
def test_compatible_lines_are_not_contradictions(lines: list[Decision]) -> None:
    refuse_contradictions(lines)


def test_ten_thousand_lines_about_one_image_are_compared_fast() -> None:
    lines = [Decision("drop", 0, 1, note=str(n)) for n in range(10_000)]
    started = time.process_time()
    refuse_contradictions(lines)
    assert time.process_time() - started < 5  # comparing every pair would take minutes


def by_a_teacher(store: Store, merges: np.ndarray) -> Findings:
    """Findings beside the store that merge each identity into another one."""
    count = store.identities
    similar = {"other_identity": (np.arange(count) + 1) % count, "similarity": np.full(count, 0.7)}
    return write_findings(
        store, [finding("divided", "identity", merges, 1, into=np.arange(count), **similar)]
    )


class TestOtherFindings:
    @pytest.fixture
    def override(self, drawn_store: Store, tmp_path: Path) -> Path:
        """What a person decided on one teacher's findings, which another teacher's
        have replaced.
        """
        first = by_a_teacher(drawn_store, np.linspace(0.9, 0.1, drawn_store.identities))
        name = first.load("divided").identity
        path = tmp_path / "override.tsv"
        lines = [
            Decision("merge", 0, into=1, check="divided", findings=name),
            Decision("drop", 0, 3, note="my own"),
        ]
        write_decisions(path, drawn_store.digest, lines)
        by_a_teacher(drawn_store, np.linspace(0.1, 0.9, drawn_store.identities))
        write_decisions(first.path / DECISIONS_FILE, drawn_store.digest, [])
        return path

    def test_an_override_is_refused_with_the_lines(
        self, drawn_store: Store, override: Path
    ) -> None:
        folder = findings_folder(drawn_store)
        with pytest.raises(UserError) as refusal:
            chosen_decisions(folder / DECISIONS_FILE, [override], drawn_store, folder)
        message = str(refusal.value)
        assert "made for other findings than" in message
        assert f"{override} line 3: merge 0 1 (divided-" in message
        assert "line 4" not in message

    def test_a_table_elsewhere_is_refused_too(self, drawn_store: Store, override: Path) -> None:
        with pytest.raises(UserError, match="made for other findings"):
            chosen_decisions(override, [], drawn_store, findings_folder(drawn_store))

    def test_an_override_must_match_a_table_without_findings(
        self, drawn_store: Store, override: Path, tmp_path: Path
    ) -> None:
        table = tmp_path / "table.tsv"
        other = Decision("merge", 5, into=1, check="divided", findings="divided-0123")
        write_decisions(table, drawn_store.digest, [other])
        with pytest.raises(UserError, match=r"override\.tsv line 3: merge 0 1"):
            chosen_decisions(table, [override], drawn_store, tmp_path / "none")

    def test_lines_without_findings_are_applied(self, drawn_store: Store, override: Path) -> None:
        mine = [line for line in read_decisions(override, drawn_store.digest) if not line.findings]
        write_decisions(override, drawn_store.digest, [*mine, Decision("merge", 0, into=1)])
        folder = findings_folder(drawn_store)
        chosen = chosen_decisions(folder / DECISIONS_FILE, [override], drawn_store, folder)
        assert [line.proposal for line in chosen] == ["drop 3 0", "merge 0 1"]

    def test_findings_set_aside_still_serve_their_table(
        self, drawn_store: Store, tmp_path: Path
    ) -> None:
        folder = findings_folder(drawn_store)
        first = by_a_teacher(drawn_store, np.linspace(0.9, 0.1, drawn_store.identities))
        line = Decision(
            "merge", 0, into=1, check="divided", findings=first.load("divided").identity
        )
        write_decisions(folder / DECISIONS_FILE, drawn_store.digest, [line])
        folder.rename(tmp_path / "kept")
        by_a_teacher(drawn_store, np.linspace(0.1, 0.9, drawn_store.identities))
        table = tmp_path / "kept" / DECISIONS_FILE
        assert chosen_decisions(table, [], drawn_store, folder) == [line]


class TestFollowing:
    """An edited table after the checks propose something else."""

    OLD, NEW = "overlap-01", "overlap-02"

    def proposal(self, identity: int, findings: str) -> Decision:
        return Decision("drop-identity", identity, check="overlap", findings=findings)

    def test_unedited_lines_follow_the_proposals(self) -> None:
        before = [self.proposal(k, self.OLD) for k in (1, 2)]
        now = [self.proposal(k, self.NEW) for k in (2, 3)]
        assert follow_proposals(before, before, now) == now

    def test_an_edited_verdict_stays_and_names_the_new_findings(self) -> None:
        before = [self.proposal(1, self.OLD)]
        mine = [replace(before[0], apply=False)]
        (kept,) = follow_proposals(mine, before, [self.proposal(1, self.NEW)])
        assert (kept.apply, kept.findings) == (False, self.NEW)

    def test_a_verdict_without_a_proposal_is_the_persons_own(self) -> None:
        before = [self.proposal(1, self.OLD)]
        mine = [replace(before[0], apply=False)]
        (kept,) = follow_proposals(mine, before, [])
        assert (kept.apply, kept.findings) == (False, "")

    def test_added_lines_stay_and_removed_ones_do_not_return(self) -> None:
        before = [self.proposal(1, self.OLD)]
        own = Decision("merge", 4, into=2)
        now = [self.proposal(k, self.NEW) for k in (1, 5)]
        assert follow_proposals([own], before, now) == [own, now[1]]

    def test_a_new_proposal_does_not_overrule_a_person(self) -> None:
        own = Decision("merge", 4, into=2)
        assert follow_proposals([own], [], [self.proposal(4, self.NEW)]) == [own]


@pytest.mark.parametrize("kept", [0, 1, 3], ids=["none-kept", "one-kept", "all-kept"])
@pytest.mark.parametrize("reviewed", [False, True], ids=["table", "review"])
def test_proposals_that_a_cut_table_lost_are_reported(drawn_store: Store, kept, reviewed) -> None:
    folder = findings_folder(drawn_store)
    by_a_teacher(drawn_store, np.linspace(0.9, 0.1, drawn_store.identities))
    lines = [Decision("drop", int(drawn_store.labels[image]), image) for image in range(3)]
    table = folder / DECISIONS_FILE
    write_decisions(folder / PROPOSED_FILE, drawn_store.digest, lines)
    edited = [replace(line, apply=number > 0) for number, line in enumerate(lines)]
    write_decisions(table, drawn_store.digest, edited)
    table.write_text("".join(table.read_text().splitlines(keepends=True)[: 2 + kept]))
    if reviewed:
        (folder / DECISIONS_LOG).touch()
    told: list[str] = []
    carried = decisions_to_carry_out(None, [], drawn_store, folder, told.append)
    assert carried == edited[:kept]
    assert [line.split(",")[0] for line in told] == [f"{3 - kept} proposals are not applied"][
        kept // 3 :
    ]
