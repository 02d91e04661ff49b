"""IJB-B and IJB-C: reading the lists, and measuring as the published script does."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from distill.evaluation.protocols.protocol import ProtocolSet, TemplateWeights, open_protocol
from distill.evaluation.templates import template, templates
from tests.distill.evaluation.protocols.people_at_random import drawn
from tests.distill.evaluation.small_protocols import PEOPLE, write_ijb


def ijb(tmp_path: Path) -> ProtocolSet:
    write_ijb(tmp_path)
    return open_protocol("ijbc", tmp_path)


def test_templates_match_the_script():
    generator = np.random.default_rng(1)
    number = generator.permutation(np.repeat([5, 7, 30], [4, 1, 6]))
    medium = generator.integers(0, 3, 11)
    features, weights = generator.normal(size=(11, 8)), generator.random(11)
    found = templates(features, weights, number, medium)
    for row, each in enumerate((5, 7, 30)):
        chosen = number == each
        raw = features[chosen] * weights[chosen, None]
        assert found[row] == pytest.approx(template(raw, medium[chosen], by_norm=True), abs=1e-6)


def test_ijb_verification_matches_the_script(tmp_path: Path):
    opened = ijb(tmp_path)
    embedded = drawn(48, np.repeat(np.arange(PEOPLE), 6), noise=3)
    report = opened.score(embedded, True)
    # A literal transcription of insightface's ijb_evals.py
    lists = [
        line.split() for line in (tmp_path / "meta/ijbc_face_tid_mid.txt").read_text().splitlines()
    ]
    tids = np.array([int(row[1]) for row in lists])
    mids = np.array([int(row[2]) for row in lists])
    faces = [
        line.split()
        for line in (tmp_path / "meta/ijbc_name_5pts_score.txt").read_text().splitlines()
    ]
    raw = embedded.unit * embedded.norms[:, None] * np.array([[float(row[-1])] for row in faces])
    feature = {}
    for tid in np.unique(tids):
        own = tids == tid
        means = [raw[own & (mids == mid)].mean(axis=0) for mid in np.unique(mids[own])]
        total = np.sum(means, axis=0)
        feature[tid] = total / np.linalg.norm(total)
    pairs = np.loadtxt(tmp_path / "meta/ijbc_template_pair_label.txt", int)
    scores = np.array([feature[a] @ feature[b] for a, b, _ in pairs])
    same = pairs[:, 2] == 1
    for rate, each in report["tar_at_far"].items():
        if each["tar"] is not None:
            allowed = int((~same).sum() // 10 ** int(rate[3:]))
            threshold = np.sort(scores[~same])[::-1][allowed]
            assert each["tar"] == pytest.approx(np.mean(scores[same] > threshold + 1e-6), abs=0.01)
            assert each["cosine_threshold"] == pytest.approx(threshold, abs=1e-5)
            assert each["interval"][0] <= each["tar"] <= each["interval"][1]
    assert report["genuine"] == same.sum()


def test_published_tar_uses_the_nearest_rate_of_the_roc():
    # Thresholds 0.9, 0.8 ... 0.4: FPR 0, 1/4, 1/4, 1/2, 3/4, 1 and TPR 1/2, 1/2, 1, 1, 1, 1.
    from distill.evaluation.protocols.published import tar_at_nearest

    cosines = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)
    same = np.array([True, False, True, False, False, False])
    found = tar_at_nearest(cosines, same)
    assert found["1e-6"] == 0.5
    assert found["1e-1"] == 0.5  # 0.1 is nearer to 0 than to 1/4, which has TAR 1


def test_ijb_ranks_of_both_galleries_are_added(tmp_path: Path):
    opened = ijb(tmp_path)
    report = opened.score(drawn(48, np.repeat(np.arange(PEOPLE), 6)), True)
    galleries = report["galleries"]
    assert list(galleries) == ["G1", "G2", "all"]
    assert galleries["G1"]["enrolled"] == PEOPLE // 2
    assert galleries["all"]["closed_set"]["probes"] == 2 * PEOPLE
    one, two = (galleries[each]["closed_set"]["ranks"]["1"]["rate"] for each in ("G1", "G2"))
    assert report["published"]["ranks"]["1"] == pytest.approx((one + two) / 2)
    assert galleries["G1"]["open_set"]["unmated"] == PEOPLE
    assert set(report["published"]["tpir"]) == {"1e-1", "1e-2", "1e-3", "1e-4"}


def test_ijb_without_lists_of_searches_is_one_to_one(tmp_path: Path):
    write_ijb(tmp_path / "set")
    for path in (tmp_path / "set" / "meta").glob("*_1N_*"):
        path.unlink()
    report = open_protocol("ijbc", tmp_path / "set").score(
        drawn(48, np.repeat(np.arange(PEOPLE), 6)), False
    )
    assert "galleries" not in report


def test_the_image_weights_change_templates_and_digest(tmp_path: Path):
    first = ijb(tmp_path)
    other = open_protocol("ijbc", tmp_path, TemplateWeights(norm=False, detector=False))
    assert first.digest != other.digest
    embedded = drawn(48, np.repeat(np.arange(PEOPLE), 6), noise=3)
    assert first.score(embedded, False)["auc"] != other.score(embedded, False)["auc"]


def test_the_release_folder_is_found_by_its_name(tmp_path: Path):
    write_ijb(tmp_path / "IJBC")
    assert len(open_protocol("ijbc", tmp_path).faces) == 48


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("face_tid_mid", lambda t: t.replace("0_1.jpg 0 0", "0_1.jpg 0", 1), "line 2 has 2 col"),
        ("face_tid_mid", lambda t: t.replace("0_0.jpg 0", "0_0.jpg x", 1), "line 1: 'x' is no"),
        ("face_tid_mid", lambda t: t.replace("0_0.jpg", "../0_0.jpg", 1), "is not a name below"),
        ("face_tid_mid", lambda t: "", "names no images"),
        ("name_5pts_score", lambda t: t.replace("0_0.jpg", "9.jpg", 1), "same images line by line"),
        ("name_5pts_score", lambda t: t.replace("38.3", "nan", 1), "line 1: .*x y of five points"),
        ("name_5pts_score", lambda t: t.replace("38.3", "1e99", 1), "cannot be points"),
        ("name_5pts_score", lambda t: t.replace("38.3", "a", 1), "line 1"),
        ("name_5pts_score", lambda t: t.rsplit("\n", 2)[0] + "\n", "has 47 images"),
        ("name_5pts_score", lambda t: t + t.splitlines()[-1], "more images than the 48"),
        ("template_pair_label", lambda t: t + "0 1 x\n", "line 1381: '0 1 x'"),
        ("template_pair_label", lambda t: t + "0 1 2\n", "allowed: 1 and 0"),
        ("template_pair_label", lambda t: t + "0 99 1\n", "template 99 .row 1381. has no image"),
        ("template_pair_label", lambda t: "0 0 0\n" + t, "pair 1 is template 0 with itself"),
        ("name_5pts_score", lambda t: re.sub("jpg.*", "jpg" + " 1" * 11, t), "coincide"),
        ("name_5pts_score", lambda t: re.sub(r" 0\.5.*\n", " 0\n", t, count=2), "the score 0"),
        ("template_pair_label", lambda t: re.sub(r" 1\n", " 0\n", t), "none of its .* is genuine"),
        ("template_pair_label", lambda t: "0 1 1\n0 10 0\n", "no TAR can be measured at any FAR"),
        ("template_pair_label", lambda t: "", "is empty"),
        ("1N_gallery_G1", lambda t: t + "0,5\n", "template 0 is of subject 5"),
        ("1N_gallery_G1", lambda t: "T,S\n", "names no templates"),
        ("1N_gallery_G1", lambda t: "T,S\n10,100\n", "none of its subjects"),
        ("1N_probe_mixed", lambda t: t + "a,b\n", "line 18"),
        ("1N_gallery_G1", lambda t: t + "1,0\n", "template 1 is also in ijbc_1N_probe"),
    ],
)  # fmt: skip
def test_bad_ijb_lists_are_refused(
    tmp_path: Path, file: str, change: Callable[[str], str], message: str
):
    write_ijb(tmp_path)
    (path,) = (tmp_path / "meta").glob(f"*{file}*")
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message) as refused:
        open_protocol("ijbc", tmp_path)
    assert path.name in str(refused.value)


def test_the_lists_of_the_other_release_are_recognised(tmp_path: Path):
    write_ijb(tmp_path)
    with pytest.raises(UserError, match=f"has the lists of ijbc; give ijbc:{tmp_path}"):
        open_protocol("ijbb", tmp_path)


def test_a_missing_list_of_searches_is_named(tmp_path: Path):
    write_ijb(tmp_path)
    (tmp_path / "meta" / "ijbc_1N_gallery_G2.csv").unlink()
    with pytest.raises(UserError, match=r"gallery_G2\.csv is missing"):
        open_protocol("ijbc", tmp_path)


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b" \n  \n"], ids=["windows", "mac", "blanks"])
def test_any_line_ends_and_blank_lines_are_read(tmp_path: Path, end: bytes):
    write_ijb(tmp_path)
    for path in (tmp_path / "meta").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", end))
    assert len(open_protocol("ijbc", tmp_path).faces) == 48
