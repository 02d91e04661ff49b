"""Turning findings into decisions: each flagged subject gets one, by precedence."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_people import embedded

from curation.noise.clean import apply_decisions
from curation.noise.decisions import Decision
from curation.noise.findings import (
    CheckSummary,
    Finding,
    Findings,
    FindingsMeta,
    save_finding,
    save_meta,
)
from curation.noise.proposals import propose

LABELS = np.repeat(np.arange(6), 4)
IMAGES = embedded(np.zeros((24, 2), np.float32), LABELS)


def write(folder: Path, *findings: Finding) -> Findings:
    summaries = [
        CheckSummary(check=f.check, subject=f.subject, scored=len(f.scores),
                     flagged=int(f.flagged.sum()), summary="", seconds=0.0)
        for f in findings
    ]  # fmt: skip
    for one in findings:
        save_finding(folder, one)
    meta = FindingsMeta(
        format_version=1,
        images_name="train",
        images_digest="",
        embeddings_digest="",
        evaluation={},
        images=24,
        identities=6,
        checks=tuple(summaries),
    )
    save_meta(folder, meta)
    return Findings(folder)


def finding(check: str, subject: str, size: int, flagged: Iterable[int], **evidence) -> Finding:
    scores = np.full(size, 0.1, np.float32)
    scores[list(flagged)] = 0.75
    images = {"part": evidence.pop("part")} if "part" in evidence else {}
    return Finding(
        check, subject, np.arange(size), scores, scores > 0.5,
        {name: np.asarray(values) for name, values in evidence.items()}, "", images,
    )  # fmt: skip


def misplaced(flagged: Iterable[int], elsewhere: float = 0.0, other: int = 5) -> Finding:
    return finding(
        "misplaced", "image", 24, flagged, similarity=np.full(24, 0.1), nearest=np.zeros(24),
        other_identity=np.full(24, other), other_similarity=np.full(24, 0.7),
        elsewhere=np.full(24, elsewhere),
    )  # fmt: skip


def mixed(flagged: Iterable[int], part: np.ndarray) -> Finding:
    return finding("mixed", "identity", 6, flagged, parts=np.full(6, 2), smaller=np.full(6, 2),
                   between=np.zeros(6), part=part)  # fmt: skip


def unusable(flagged: Iterable[int]) -> Finding:
    return finding(
        "unusable", "image", 24, flagged, norm=np.full(24, 3.25), similarity=np.zeros(24)
    )


def duplicate(flagged: Iterable[int], of: int) -> Finding:
    return finding("duplicate", "image", 24, flagged, of=np.full(24, of), similarity=np.ones(24),
                   difference=np.zeros(24))  # fmt: skip


def overlap(flagged: Iterable[int]) -> Finding:
    return finding("overlap", "identity", 6, flagged, set=np.zeros(6, int), image=np.arange(6),
                   similarity=np.full(6, 0.8))  # fmt: skip


def divided(into: Iterable[int]) -> Finding:
    into = np.asarray(list(into))
    return finding("divided", "identity", 6, np.flatnonzero(into != np.arange(6)), into=into,
                   other_identity=into, similarity=np.full(6, 0.9))  # fmt: skip


def fates(folder: Path, *findings: Finding) -> list[tuple]:
    """The proposals: (action, identity, image, into)."""
    proposed = propose(write(folder, *findings), IMAGES)
    return [(one.action, one.identity, one.image, one.into) for one in proposed]


def test_without_flags_nothing_is_proposed(tmp_path: Path) -> None:
    parts = np.zeros(24, np.int16)
    none = [misplaced([]), mixed([], parts), divided(range(6)), duplicate([], 0), unusable([])]
    assert fates(tmp_path, *none, overlap([])) == []
    assert fates(tmp_path) == []


def test_each_check_proposes_its_own(tmp_path: Path) -> None:
    parts = np.where(np.arange(24) % 4 >= 2, 1, 0).astype(np.int16)
    assert fates(tmp_path, misplaced([1])) == [("drop", 0, 1, None)]
    assert fates(tmp_path, mixed([1], parts)) == [("split", 1, 6, 1), ("split", 1, 7, 1)]
    assert fates(tmp_path, divided([0, 0, 2, 3, 4, 2])) == [
        ("merge", 1, None, 0),
        ("merge", 5, None, 2),
    ]
    assert fates(tmp_path, duplicate([9], 8)) == [("drop", 2, 9, None)]
    assert fates(tmp_path, unusable([23])) == [("drop", 5, 23, None)]
    assert fates(tmp_path, overlap([3])) == [("drop-identity", 3, None, None)]


@pytest.mark.parametrize(("elsewhere", "moves"), [(0.0, False), (0.89, False), (0.95, True)])
def test_a_misplaced_image_moves_only_if_certain(
    tmp_path: Path, elsewhere: float, moves: bool
) -> None:
    expected = ("move", 0, 1, 5) if moves else ("drop", 0, 1, None)
    assert fates(tmp_path, misplaced([1], elsewhere)) == [expected]


def test_no_image_moves_to_a_dropped_identity(tmp_path: Path) -> None:
    proposed = fates(tmp_path, misplaced([1], 0.99), overlap([5]))
    assert proposed == [("drop-identity", 5, None, None), ("drop", 0, 1, None)]


def test_unusable_and_duplicate_images_get_no_other_decision(tmp_path: Path) -> None:
    proposed = fates(tmp_path, misplaced([1, 2, 3], 0.99), unusable([1, 2]), duplicate([2, 3], 0))
    assert proposed == [("drop", 0, image, None) for image in (1, 2, 3)]


def test_the_second_person_of_a_mixed_identity_is_not_dropped(tmp_path: Path) -> None:
    parts = np.zeros(24, np.int16)
    parts[2:4] = 1
    assert fates(tmp_path, misplaced([1, 2, 3]), mixed([0], parts)) == [
        ("split", 0, 2, 1),
        ("split", 0, 3, 1),
        ("drop", 0, 1, None),
    ]


def test_relabelled_images_are_not_split_off(tmp_path: Path) -> None:
    parts = np.zeros(24, np.int16)
    parts[2:4] = 1
    assert fates(tmp_path, misplaced([2], 0.99), mixed([0], parts)) == [
        ("split", 0, 3, 1),
        ("move", 0, 2, 5),
    ]


def test_dropped_identities_are_neither_split_nor_merged(tmp_path: Path) -> None:
    parts = np.ones(24, np.int16)
    assert fates(
        tmp_path, mixed([2], parts), overlap([0, 2]), divided([0, 0, 2, 3, 2, 5])
    ) == [("drop-identity", 0, None, None), ("drop-identity", 2, None, None)]  # fmt: skip


def test_lines_have_notes_and_scores(tmp_path: Path) -> None:
    proposed = list(
        propose(write(tmp_path, misplaced([1], 0.99), unusable([9]), duplicate([4], 7)), IMAGES)
    )
    assert [one.note for one in proposed] == [
        "embedding of length 3.25",
        "repeats image 7",
        "cosine 0.100 to its identity, 0.700 to identity 5",
    ]
    assert {one.score for one in proposed} == {0.75}
    assert [one.check for one in proposed] == ["unusable", "duplicate", "misplaced"]


images_flagged = st.sets(st.integers(0, 23))
identities_flagged = st.sets(st.integers(0, 5))


@given(images_flagged, images_flagged, images_flagged, identities_flagged, identities_flagged,
       st.lists(st.integers(0, 2), min_size=24, max_size=24), st.floats(0, 1),
       st.lists(st.integers(0, 1), min_size=6, max_size=6))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_each_subject_gets_at_most_one_valid_decision(
    tmp_path_factory: pytest.TempPathFactory, wrong, useless, repeated, two, tested, parts,
    elsewhere, halves,
) -> None:  # fmt: skip
    part = np.array(parts, np.int16)
    into = np.arange(6) - np.array(halves) * (np.arange(6) % 2)
    found = write(
        tmp_path_factory.mktemp("findings"),
        misplaced(wrong, elsewhere),
        mixed(two, part),
        divided(into),
        duplicate(repeated, 0),
        unusable(useless),
        overlap(tested),
    )
    proposed: list[Decision] = list(propose(found, IMAGES))
    images = [one.image for one in proposed if one.image is not None]
    assert len(images) == len(set(images))
    whole = [one.identity for one in proposed if one.image is None]
    assert len(whole) == len(set(whole))
    assert not tested & {one.identity for one in proposed if one.action != "drop-identity"}
    new = apply_decisions(LABELS, proposed)
    assert (new[np.isin(LABELS, list(tested))] == -1).all()
    assert (new[list(useless | repeated)] == -1).all()
