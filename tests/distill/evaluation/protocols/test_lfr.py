"""The Lightweight Face Recognition challenge: lists, distractors, submissions."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from curation.errors import UserError
from distill.evaluation.curves import equal_error_rate
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.protocols.protocol import open_protocol
from distill.evaluation.score_counts import ScoreCounts
from tests.distill.evaluation.features_of_people import normalised
from tests.distill.evaluation.protocols.people_at_random import drawn
from tests.distill.evaluation.small_protocols import EACH, PEOPLE, write_lfr, write_matrix


def lfr_people() -> np.ndarray:
    return np.array([i // EACH for i in range(PEOPLE * EACH)] + [-1] * 100)


@pytest.mark.parametrize("videos", [False, True])
def test_lfr_does_not_compare_distractors_with_each_other(tmp_path: Path, videos: bool):
    write_lfr(tmp_path, videos)
    opened = open_protocol("lfr", tmp_path)
    people = np.repeat(lfr_people(), 2 if videos else 1)
    assert len(opened.faces) == len(people)
    embedded = drawn(len(people), people)
    counts = ScoreCounts()
    report = opened.score(embedded, True, counts)
    labels = lfr_people()
    features = embedded.unit
    if videos:
        features = normalised(features.reshape(-1, 2, 16).sum(axis=1))
    cosines = features @ features.T
    one, other = np.triu_indices(len(labels), 1)
    counted = (labels[one] >= 0) | (labels[other] >= 0)
    same = (labels[one] == labels[other])[counted]
    scores = cosines[one, other][counted]
    assert report["genuine"] == same.sum()
    assert report["impostors"] == (~same).sum()
    assert (counts.genuine.sum(), counts.impostors.sum()) == (same.sum(), (~same).sum())
    assert counts.equal_error_rate().value == pytest.approx(
        equal_error_rate(scores[same], scores[~same]), abs=1e-3
    )
    allowed = int((~same).sum() // 100)
    threshold = np.sort(scores[~same])[::-1][allowed]
    found = report["tar_at_far"]["1e-2"]
    assert found["cosine_threshold"] == pytest.approx(threshold, abs=1e-6)
    assert found["tar"] == pytest.approx(np.mean(scores[same] > threshold))
    assert found["interval"][0] <= found["tar"] <= found["interval"][1]


def test_an_lfr_submission_is_scored(tmp_path: Path):
    write_lfr(tmp_path / "set", videos=True)
    opened = open_protocol("lfr", tmp_path / "set")
    write_matrix(tmp_path / "answers" / "lfr.bin", drawn(148, lfr_people()).unit)
    report = evaluate(GivenFeatures(tmp_path / "answers"), [opened])
    assert report["sets"]["lfr"]["tar_at_far"]["1e-2"]["tar"] > 0.9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\1\0", "2 bytes are too few for a matrix"),
        (np.array([148, 16, 64, 6], "<i4").tobytes(), "expected rows, columns"),
        (np.array([-1, 16, 64, 5], "<i4").tobytes(), "expected rows, columns"),
        (np.array([1 << 30, 1 << 10, 1 << 12, 5], "<i4").tobytes(), "bytes, and it has 16"),
        (np.array([1, 1, 4, 5, 0], "<i4").tobytes(), "it has 1 rows"),
    ],
    ids=["short", "kind", "negative", "huge", "few"],
)
def test_bad_submissions_are_refused(tmp_path: Path, content: bytes, message: str):
    write_lfr(tmp_path / "set")
    (tmp_path / "lfr.bin").write_bytes(content)
    opened = open_protocol("lfr", tmp_path / "set")
    with pytest.raises(UserError, match=message):
        evaluate(GivenFeatures(tmp_path), [opened])


def test_a_submission_beyond_the_memory_is_refused(tmp_path: Path, monkeypatch):
    write_lfr(tmp_path / "set")
    opened = open_protocol("lfr", tmp_path / "set")
    write_matrix(tmp_path / "lfr.bin", drawn(148, lfr_people()).unit)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(UserError, match=r"lfr\.bin: 148 x [0-9]+ takes .* and 0\.0 GiB are free"):
        evaluate(GivenFeatures(tmp_path), [opened])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels.txt", None, "LFR did not publish its labels"),
        ("labels.txt", "1\n", "has 1 labels, and filelist.txt 148 lines"),
        ("labels.txt", "x\n" * 148, "line 1: 'x' is not a label"),
        ("labels.txt", "-2\n" * 148, "-2 is not a label"),
        ("labels.txt", "-1\n" * 148, "no genuine pair"),
        ("filelist.txt", None, "filelist.txt is missing; give the folder that holds filelist.txt"),
        ("filelist.txt", "", "lists no images or videos"),
        ("filelist.txt", "/etc/passwd\n" * 148, "is not a name below"),
        ("filelist.txt", "1.jpg\n0.jpg\n1.jpg\n", "line 3: '1.jpg' is also on line 1"),
    ],
)
def test_bad_lfr_lists_are_refused(tmp_path: Path, file: str, content: str | None, message: str):
    write_lfr(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        open_protocol("lfr", tmp_path)
