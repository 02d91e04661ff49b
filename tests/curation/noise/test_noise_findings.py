"""Findings survive a round trip, and damage is reported in one line."""

import contextlib
import io
import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.noise.check import all_checks, load_finding
from curation.noise.findings import (
    FINDINGS_FILE,
    CheckSummary,
    Finding,
    Findings,
    FindingsMeta,
    save_finding,
    save_meta,
)
from curation.store import Store

SCORES = np.array([0.9, 0.2, 0.6, 0.51, 0.5], np.float32)


def a_finding() -> Finding:
    return Finding(
        "mixed",
        "identity",
        np.arange(5),
        SCORES,
        SCORES > 0.5,
        {"parts": np.arange(5), "between": np.linspace(0, 1, 5)},
        "some are mixed",
        {"part": np.arange(12, dtype=np.int16)},
    )


def write(folder: Path, finding: Finding | None = None) -> Path:
    finding = finding or a_finding()
    summary = CheckSummary(
        check=finding.check,
        subject=finding.subject,
        scored=5,
        flagged=3,
        summary="some are mixed",
        seconds=1.5,
    )
    meta = FindingsMeta(
        format_version=1,
        images_name="train",
        images_digest="ab" * 32,
        embeddings_digest="cd" * 32,
        evaluation={"lfw": "ef" * 32},
        images=12,
        identities=5,
        checks=(summary,),
    )
    save_finding(folder, finding)
    save_meta(folder, meta)
    return folder


def test_a_finding_is_read_as_written(tmp_path: Path) -> None:
    found = Findings(write(tmp_path))
    assert found.checks == ("mixed",)
    assert found.meta.evaluation == {"lfw": "ef" * 32}
    again, once = found.load("mixed"), a_finding()
    assert (again.check, again.subject, again.summary) == (once.check, once.subject, once.summary)
    for name in ("subjects", "scores", "flagged"):
        np.testing.assert_array_equal(getattr(again, name), getattr(once, name))
    assert set(again.evidence) == {"parts", "between"}
    np.testing.assert_array_equal(again.images["part"], once.images["part"])
    assert again.images["part"].dtype == np.int16


def test_a_check_is_done_once_its_summary_is_written(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "mixed.npz").rename(tmp_path / "divided.npz")
    with pytest.raises(UserError, match="has no check 'divided'; done: mixed"):
        Findings(tmp_path).load("divided")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_the_worst_are_those_with_the_highest_scores(count: int) -> None:
    assert a_finding().worst(count).tolist() == [0, 2, 3][:count]


@pytest.mark.parametrize(
    ("count", "found"), [(0, []), (1, [3]), (2, [3, 4]), (3, [3, 2, 4]), (9, [3, 2, 0, 4, 1])]
)
def test_borderline_cases_are_on_both_sides_of_the_edge(count: int, found: list[int]) -> None:
    assert a_finding().borderline(count).tolist() == found


def test_a_folder_without_findings_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no findings\.json; run `curate check` to make them"):
        Findings(tmp_path)


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.findings").write_text("")
    with pytest.raises(UserError, match=r"train\.findings"):
        Findings(tmp_path / "train.findings")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format_version": 2}, "format_version"),
        ({"images": "many"}, "images"),
        ({"surprise": 1}, "surprise"),
        ({"checks": [{"check": "mixed"}]}, r"checks\.0\.subject"),
    ],
)
def test_a_damaged_findings_json_names_the_field(tmp_path: Path, change: dict, named: str) -> None:
    path = write(tmp_path) / FINDINGS_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=rf"findings\.json is damaged: {named}"):
        Findings(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_invalid_json_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FINDINGS_FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"findings\.json is damaged"):
        Findings(tmp_path)


def test_a_missing_array_file_is_one_line(tmp_path: Path) -> None:
    (write(tmp_path) / "mixed.npz").unlink()
    with pytest.raises(UserError, match=r"mixed\.npz is missing or damaged.*check again"):
        Findings(tmp_path).load("mixed")


@pytest.mark.parametrize("lacking", ["subjects", "scores", "flagged"])
def test_a_missing_array_is_one_line(tmp_path: Path, lacking: str) -> None:
    path = write(tmp_path) / "mixed.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != lacking}
    np.savez(path, **kept)
    with pytest.raises(UserError, match="missing or damaged"):
        Findings(tmp_path).load("mixed")


@pytest.mark.parametrize("short", ["subjects", "scores", "flagged", "evidence.parts"])
def test_arrays_of_another_length_are_refused(tmp_path: Path, short: str) -> None:
    path = write(tmp_path) / "mixed.npz"
    with np.load(path) as arrays:
        changed = {name: arrays[name][: -1 if name == short else None] for name in arrays.files}
    np.savez(path, **changed)
    with pytest.raises(UserError, match="do not fit its summary"):
        Findings(tmp_path).load("mixed")


def changed(folder: Path, **arrays: object) -> Path:
    """The folder with some arrays of the finding replaced, as if by somebody else."""
    path = folder / "mixed.npz"
    with np.load(path) as whole:
        kept = {name: whole[name] for name in whole.files}
    np.savez(path, **{**kept, **arrays})
    return folder


HOSTILE_ARRAYS = {
    "objects": {"scores": np.array([print] * 5, object)},
    "words": {"scores": np.array(list("abcde"))},
    "times": {"evidence.parts": np.zeros(5, "M8[s]")},
    "complex": {"evidence.parts": np.zeros(5, complex)},
    "records": {"flagged": np.zeros(5, [("a", "i4")])},
    "one number": {"subjects": np.array(3)},
    "two sides": {"scores": np.zeros((5, 5), np.float32)},
    "no number": {"scores": np.full(5, np.nan, np.float32)},
    "above one": {"scores": np.full(5, 1.5, np.float32)},
    "whole scores": {"scores": np.ones(5, int)},
    "flags as numbers": {"flagged": np.ones(5, int)},
    "other flags": {"flagged": np.zeros(5, bool)},
    "below nought": {"subjects": np.array([0, 1, 2, 3, -1])},
    "beyond the last": {"subjects": np.array([0, 1, 2, 3, 5])},
    "twice": {"subjects": np.array([0, 1, 2, 3, 3])},
    "fractions": {"subjects": np.arange(5) / 2},
    "huge": {"subjects": np.full(5, 2**64 - 1, np.uint64)},
    "truths as numbers": {"evidence.between": np.ones(5, bool)},
    "parts of more": {"images.part": np.zeros(13, np.int16)},
    "parts below": {"images.part": np.full(12, -1)},
    "parts that are none": {"images.part": np.full(12, np.nan)},
}


@pytest.mark.parametrize("arrays", HOSTILE_ARRAYS.values(), ids=HOSTILE_ARRAYS)
def test_invalid_arrays_are_one_line(tmp_path: Path, arrays: dict) -> None:
    folder = changed(write(tmp_path), **arrays)
    with pytest.raises(UserError, match=r"^[^\n]*mixed\.npz is missing or damaged: [^\n]+$"):
        Findings(folder).load("mixed")


IMPOSSIBLE_EVIDENCE = [
    ("misplaced", {"other_identity": np.full(5, 5)}),
    ("misplaced", {"other_identity": np.full(5, -2)}),
    ("mixed", {"parts": np.full(5, np.nan)}),
    ("mixed", {"smaller": np.full(5, -1)}),
    ("divided", {"other_identity": np.full(5, 5)}),
    ("divided", {"into": np.full(5, -1)}),
    ("duplicate", {"of": np.full(5, 12)}),
    ("overlap", {"set": np.full(5, -2)}),
    ("overlap", {"set": np.ones(5, int), "image": np.full(5, -1)}),
    ("overlap", {"set": np.ones(5), "image": np.full(5, -1)}),
]


@pytest.mark.parametrize(("check", "evidence"), IMPOSSIBLE_EVIDENCE)
def test_evidence_with_missing_subjects_is_one_line(
    tmp_path: Path, check: str, evidence: dict[str, np.ndarray]
) -> None:
    one = all_checks()[check]
    finding = replace(a_finding(), check=check, subject=one.subject, evidence=evidence)
    with pytest.raises(UserError, match=rf"^[^\n]*{check}\.npz is missing or damaged: [^\n]+$"):
        load_finding(Findings(write(tmp_path, finding)), check)


@pytest.mark.parametrize("shape", [(5, 1 << 28), (1 << 31,), (1 << 40, 1 << 40)])
def test_arrays_that_expand_to_gigabytes_are_refused_unread(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(write(tmp_path) / "mixed.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", head.getvalue() + bytes(10_000_000))
    with pytest.raises(UserError, match=r"scores\.npy would take \d+ bytes, at most 96"):
        Findings(tmp_path).load("mixed")


def test_thousands_of_arrays_are_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(write(tmp_path) / "mixed.npz", "w") as archive:
        for number in range(40):
            archive.writestr(f"a{number}.npy", b"")
    with pytest.raises(UserError, match="it holds 40 arrays"):
        Findings(tmp_path).load("mixed")


@pytest.mark.parametrize("content", [b"\x93NUMPY\x03\x00" + bytes(200), b"\x93NUMPY", b"none"])
def test_a_member_that_is_not_an_array_is_one_line(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(write(tmp_path) / "mixed.npz", "w") as archive:
        archive.writestr("scores.npy", content)
    with pytest.raises(UserError, match="missing or damaged"):
        Findings(tmp_path).load("mixed")


@pytest.mark.parametrize("kind", ["plain array", "pipe", "folder"])
def test_a_file_that_is_not_an_archive_is_one_line(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path) / "mixed.npz"
    path.unlink()
    if kind == "plain array":
        with path.open("wb") as file:
            np.save(file, np.arange(5))
    else:
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(UserError, match=r"mixed\.npz is missing or damaged"):
        Findings(tmp_path).load("mixed")


@pytest.mark.parametrize(
    ("summary", "named"),
    [
        ({"check": "../mixed"}, r"checks\.0\.check"),
        ({"check": "Mixed"}, r"checks\.0\.check"),
        ({"scored": -1}, r"checks\.0\.scored"),
        ({"scored": 6}, "mixed has 3 flagged of 6 scored of 5"),
        ({"flagged": 9}, "mixed has 9 flagged of 5 scored"),
        ({"subject": "nobody"}, r"checks\.0\.subject"),
        ({"scored": 10**40}, "an integer of more than 64 bits: 10000"),
        ({"scored": 1 << 40}, r"checks\.0\.scored"),
        ({"seconds": -1}, r"checks\.0\.seconds"),
    ],
)
def test_an_invalid_summary_is_named(tmp_path: Path, summary: dict, named: str) -> None:
    path = write(tmp_path) / FINDINGS_FILE
    meta = json.loads(path.read_text())
    meta["checks"][0] |= summary
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=rf"findings\.json is damaged: .*{named}"):
        Findings(tmp_path)


def test_a_repeated_check_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / FINDINGS_FILE
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"checks": meta["checks"] * 2}))
    with pytest.raises(UserError, match="the check mixed occurs 2 times"):
        Findings(tmp_path)


def test_an_endless_meta_file_is_not_read(tmp_path: Path) -> None:
    with (write(tmp_path) / FINDINGS_FILE).open("ab") as file:
        file.truncate(1 << 26)
    with pytest.raises(UserError, match=r"findings\.json: .*bytes"):
        Findings(tmp_path)


def test_counts_that_do_not_fit_the_images_are_refused(drawn_store: Store, tmp_path: Path) -> None:
    path = write(tmp_path) / FINDINGS_FILE
    meta = json.loads(path.read_text())
    with pytest.raises(UserError, match="is about other images than"):
        Findings(tmp_path, drawn_store)
    path.write_text(json.dumps(meta | {"images_digest": drawn_store.digest}))
    with pytest.raises(UserError, match=r"12 images of 5 identities, .* has 48 of 6"):
        Findings(tmp_path, drawn_store)


def test_findings_are_identified_by_images_teacher_and_arrays(tmp_path: Path) -> None:
    folder = write(tmp_path)
    first = Findings(folder).load("mixed").identity
    assert re.fullmatch("mixed-[0-9a-f]{12}", first)
    assert Findings(folder).load("mixed").identity == first
    path = folder / FINDINGS_FILE
    meta = json.loads(path.read_text())
    others = {first}
    for other in ({"images_digest": "0" * 64}, {"embeddings_digest": "0" * 64}):
        path.write_text(json.dumps(meta | other))
        others.add(Findings(folder).load("mixed").identity)
    path.write_text(json.dumps(meta))
    changed(folder, **{"evidence.parts": np.arange(5)[::-1]})
    others.add(Findings(folder).load("mixed").identity)
    assert len(others) == 4


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    path = write(tmp_path) / "mixed.npz"
    np.savez(path, subjects=np.array([print], object))
    with pytest.raises(UserError, match="missing or damaged"):
        Findings(tmp_path).load("mixed")


@given(st.integers(0, 1), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(max_examples=50, deadline=None)
def test_flipped_and_cut_bytes_are_detected_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: float, change: int
) -> None:
    folder = write(tmp_path_factory.mktemp("damaged"))
    content = bytearray((folder / "mixed.npz").read_bytes())
    at = int(place * len(content))
    content[at] ^= change
    (folder / "mixed.npz").write_bytes(content[: at if cut else None])
    with contextlib.suppress(UserError):
        np.testing.assert_array_equal(Findings(folder).load("mixed").scores, SCORES)
