"""Published evaluations in their own formats: reading, measuring and refusing them."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from curation.mat_files import read_mat
from distill.evaluation.curves import equal_error_rate
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.features import Embedded
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.protocols import protocol as registry
from distill.evaluation.protocols import tables
from distill.evaluation.protocols.protocol import (
    ProtocolSet,
    TemplateWeights,
    open_protocol,
    protocols,
    split_name,
)
from distill.evaluation.score_counts import ScoreCounts
from distill.evaluation.set_features import NetworkFeatures
from distill.evaluation.templates import template, templates
from tests.distill.evaluation.drawn_images import GridEmbedder
from tests.distill.evaluation.features_of_people import normalised
from tests.distill.evaluation.small_protocols import (
    EACH,
    PEOPLE,
    cells,
    element,
    mat_file,
    matrix,
    numbers,
    write_ijb,
    write_lfr,
    write_matrix,
    write_megaface,
    write_tinyface,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "ijbb": lambda folder: write_ijb(folder, "ijbb", ("S1", "S2")),
    "ijbc": write_ijb,
    "lfr": write_lfr,
    "megaface": write_megaface,
    "tinyface": write_tinyface,
}


@pytest.fixture(params=sorted(WRITERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> ProtocolSet:
    WRITERS[request.param](tmp_path / "set")
    return open_protocol(request.param, tmp_path / "set")


@pytest.mark.parametrize("name", ["ijbb", "ijbc", "lfr", "megaface"])
def test_a_list_of_any_length_takes_no_memory(tmp_path, monkeypatch, name: str):
    WRITERS[name](tmp_path / "set")
    monkeypatch.setattr(tables, "MOST_IMAGES", 10)
    with pytest.raises(UserError, match="has more than 10 lines; expected: "):
        open_protocol(name, tmp_path / "set")


def drawn(count: int, people: np.ndarray, seed: int = 0, noise: float = 0.3) -> Embedded:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(1000, 16))
    raw = centres[people] + noise * generator.normal(size=(count, 16))
    raw[people < 0] = generator.normal(size=(int((people < 0).sum()), 16))
    norms = np.linalg.norm(raw, axis=1)
    return Embedded(normalised(raw), norms.astype(np.float32))


def test_every_reader_is_tested_here():
    assert set(protocols()) == set(WRITERS)


def test_a_network_is_scored_and_its_features_are_cached(opened: ProtocolSet, tmp_path: Path):
    class Counting(GridEmbedder):
        asked = 0

        def embed(self, images: np.ndarray) -> np.ndarray:
            Counting.asked += 1
            return super().embed(images)

    first = evaluate(NetworkFeatures(Counting(), tmp_path / "kept"), [opened])
    asked = Counting.asked
    again = evaluate(NetworkFeatures(Counting(), tmp_path / "kept"), [opened])
    assert asked > 0
    assert Counting.asked == asked
    assert again == first
    report = first["sets"][opened.name]
    assert report["digest"] == opened.digest
    assert report["protocol"] == opened.protocol
    assert first["thresholds"]["false_accept_rates"]["1e-2"] is None


def test_a_missing_image_is_reported_before_embedding(opened: ProtocolSet):
    opened.faces.paths[3].unlink()
    with pytest.raises(UserError, match=r"1 of .* images of the lists are not there"):
        evaluate(NeverAsked(), [opened])


def test_a_damaged_image_is_reported_before_embedding(opened: ProtocolSet):
    path = opened.faces.paths[3]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        evaluate(NeverAsked(), [opened])


class NeverAsked(NetworkFeatures):
    def __init__(self) -> None:
        super().__init__(GridEmbedder())

    def _embed(self, each: object, progress: object) -> Embedded:
        raise AssertionError("nothing is to be embedded")


def test_given_embeddings_need_no_images(tmp_path: Path):
    write_ijb(tmp_path / "set")
    opened = open_protocol("ijbc", tmp_path / "set")
    people = np.repeat(np.arange(PEOPLE), 6)
    np.save(tmp_path / "ijbc.npy", drawn(48, people).unit)
    for path in opened.faces.paths:
        Path(path).unlink()
    report = evaluate(GivenFeatures(tmp_path), [open_protocol("ijbc", tmp_path / "set")])
    assert report["sets"]["ijbc"]["tar_at_far"]["1e-2"]["tar"] > 0.9


# IJB


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
        ("template_pair_label", lambda t: t + "0 1 x\n", "'0 1 x'"),
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


def test_lists_from_windows_are_read(tmp_path: Path):
    write_ijb(tmp_path)
    for path in (tmp_path / "meta").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(open_protocol("ijbc", tmp_path).faces) == 48


# TinyFace


@pytest.mark.parametrize("with_lists", [False, True])
def test_tinyface_searches_probes_among_distractors(tmp_path: Path, with_lists: bool):
    write_tinyface(tmp_path / "Testing_Set", with_lists)
    opened = open_protocol("tinyface", tmp_path)
    people = np.concatenate(
        [np.arange(PEOPLE), np.repeat(np.arange(PEOPLE), 2), -np.ones(20, np.int64)]
    )
    report = opened.score(drawn(len(people), people, noise=0.2), True)
    assert report["closed_set"]["ranks"]["1"]["rate"] == 1
    assert (report["probes"], report["enrolled"], report["distractors"]) == (8, 16, 20)


def test_narrow_faces_are_padded_to_a_square(tmp_path: Path):
    write_tinyface(tmp_path)
    pixels = open_protocol("tinyface", tmp_path).faces.pixels(0)
    assert pixels.shape == (20, 20, 3)
    assert not pixels[:, :2].any()
    assert not pixels[:, -2:].any()


def test_matlab_lists_give_the_identities(tmp_path: Path):
    write_tinyface(tmp_path, with_lists=True)
    names = [f"{s}_1.jpg" for s in range(PEOPLE)]
    people = cells("probe_set", names) + numbers("probe_ids", [7.0] * PEOPLE)
    (tmp_path / "probe_img_ID_pairs.mat").write_bytes(mat_file(people))
    people = np.concatenate([[7] * 8, np.repeat(np.arange(8), 2), -np.ones(20, np.int64)])
    report = open_protocol("tinyface", tmp_path).score(drawn(44, people, noise=0.2), True)
    assert report["closed_set"]["ranks"]["1"]["rate"] == 1


def test_a_probe_without_a_mate_is_refused(tmp_path: Path):
    write_tinyface(tmp_path)
    for path in (tmp_path / "Gallery_Match").glob("3_*"):
        path.unlink()
    with pytest.raises(UserError, match="no image of person 3 \\(probes without a mate: 1\\)"):
        open_protocol("tinyface", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(600), "save it with -v7"),
        (mat_file(numbers("probe_ids", [1.0])), "probe_set is missing"),
        (
            mat_file(cells("probe_set", ["../x.jpg"]) + numbers("probe_ids", [1.0])),
            "not the name of",
        ),
        (
            mat_file(cells("probe_set", ["x.jpg"]) + numbers("probe_ids", [0.5])),
            "not a whole number",
        ),
        (mat_file(cells("probe_set", ["x.jpg"]))[:-9], "damaged"),
        (mat_file(matrix(1, "probe_set", (1 << 30, 1), b"")), "cells of 'probe_set' are 0"),
        (mat_file(element(15, b"nothing that is packed")), "damaged"),
    ],
    ids=["empty", "hdf5", "no names", "path", "half", "cut", "huge", "unpackable"],
)
def test_bad_matlab_lists_are_refused(tmp_path: Path, content: bytes, message: str):
    write_tinyface(tmp_path)
    (tmp_path / "probe_img_ID_pairs.mat").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_protocol("tinyface", tmp_path)


def test_matlab_numbers_texts_and_cells_are_read(tmp_path: Path):
    path = tmp_path / "some.mat"
    content = numbers("some", [1.0, 2.5]) + cells("names", ["ä.jpg", "b"])
    path.write_bytes(mat_file(content, packed=True))
    found = read_mat(path)
    assert found["names"] == ["ä.jpg", "b"]
    assert np.array_equal(found["some"], [1.0, 2.5])


# LFR


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


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels.txt", None, "LFR did not publish its labels"),
        ("labels.txt", "1\n", "has 1 labels, and filelist.txt 148 lines"),
        ("labels.txt", "x\n" * 148, "line 1: 'x' is not a label"),
        ("labels.txt", "-2\n" * 148, "-2 is not a label"),
        ("labels.txt", "-1\n" * 148, "no genuine pair"),
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


# MegaFace


def megaface_people(opened: ProtocolSet) -> np.ndarray:
    return np.array(
        [
            int(Path(path).name.split("_")[1]) if "facescrub" in str(path) else -1
            for path in opened.faces.paths
        ]
    )


def test_megaface_leaves_noise_out(tmp_path: Path):
    write_megaface(tmp_path)
    opened = open_protocol("megaface", tmp_path)
    assert len(opened.faces) == PEOPLE * EACH - 1 + 60 - 1
    people = megaface_people(opened)
    report = opened.score(drawn(len(people), people), True)
    assert report["among_distractors"]["distractors"]["10"]["1"]["rate"] > 0.9
    assert report["distractors"] == 59
    assert report["impostors"] > 47 * 59


@pytest.mark.parametrize("marked", [False, True], ids=["plain", "cleaned"])
def test_features_of_the_megaface_tools_are_scored(tmp_path: Path, marked: bool):
    write_megaface(tmp_path / "set")
    opened = open_protocol("megaface", tmp_path / "set")
    people, answers = megaface_people(opened), tmp_path / "answers"
    features = drawn(len(people), people).unit
    for path, feature in zip(opened.faces.paths, features, strict=True):
        where = str(Path(path).relative_to(tmp_path / "set")).replace("_images", "")
        noisy = "000/5/" in where
        whole = np.append(feature, 100.0 if noisy else 0.0) if marked else feature
        write_matrix(answers / f"{where}_net.bin", whole[:, None])
    report = evaluate(GivenFeatures(answers), [opened])["sets"]["megaface"]
    assert report["distractors"] == (58 if marked else 59)
    assert report["tar_at_far"]["1e-2"]["tar"] > 0.9
    write_matrix(answers / "facescrub/Person_0/Person_0_1.png_other.bin", features[:1].T)
    with pytest.raises(UserError, match="holds features of several networks"):
        evaluate(GivenFeatures(answers), [opened])


# The registry


def test_unknown_protocols_and_folders_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no protocol 'ijbd'.*did you mean"):
        open_protocol("ijbd", tmp_path)
    with pytest.raises(UserError, match="is not a folder; ijbc needs one"):
        open_protocol("ijbc", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "name"),
    [("ijbc:/a/b", "ijbc"), ("c:\\sets", None), ("ijbc", None), ("ijbc:", None), ("a/b:c", None)],
)
def test_a_protocol_is_named_with_its_folder(text: str, name: str | None):
    found = split_name(text)
    assert (found and found[0]) == name


def test_the_name_of_a_protocol_is_unique():
    with pytest.raises(UserError, match="the protocol 'lfr' is registered in"):
        registry.protocol("lfr", "another")(lambda folder, weights: None)  # type: ignore[arg-type, return-value]
