"""Findings are read as they were written, and damage is said in one line."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.noise.findings import (
    FINDINGS_FILE,
    CheckSummary,
    Finding,
    Findings,
    FindingsMeta,
    save_finding,
    save_meta,
)

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


def write(folder: Path) -> Path:
    summary = CheckSummary(
        check="mixed",
        subject="identity",
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
    save_finding(folder, a_finding())
    save_meta(folder, meta)
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
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


def test_a_check_counts_once_its_summary_is_written(tmp_path: Path) -> None:
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
def test_the_borderline_lies_on_both_sides_of_the_edge(count: int, found: list[int]) -> None:
    assert a_finding().borderline(count).tolist() == found


def test_a_folder_without_findings_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has no findings\.json; make findings with `curate check`"
    ):
        Findings(tmp_path)


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path: Path) -> None:
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
def test_what_is_no_json_is_damaged(tmp_path: Path, content: bytes) -> None:
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


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    path = write(tmp_path) / "mixed.npz"
    np.savez(path, subjects=np.array([print], object))
    with pytest.raises(UserError, match="missing or damaged"):
        Findings(tmp_path).load("mixed")


@given(st.integers(0, 1), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(max_examples=50, deadline=None)
def test_flipped_and_cut_bytes_are_damage_or_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: float, change: int
) -> None:
    folder = write(tmp_path_factory.mktemp("damaged"))
    content = bytearray((folder / "mixed.npz").read_bytes())
    at = int(place * len(content))
    content[at] ^= change
    (folder / "mixed.npz").write_bytes(content[: at if cut else None])
    with contextlib.suppress(UserError):
        np.testing.assert_array_equal(Findings(folder).load("mixed").scores, SCORES)
