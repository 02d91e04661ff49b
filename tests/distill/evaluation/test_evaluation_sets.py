"""Whole sets: images in, scores with digests out, as JSON."""

import hashlib
import json
import os
import re
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_images import DrawnImages, GridEmbedder

from curation.errors import UserError
from curation.pairs import VerificationPairs, read_pairs, write_pairs
from curation.store import Store
from distill.evaluation import set_features
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.measurable import check_measurable, why_no_accuracy
from distill.evaluation.set_features import NetworkFeatures
from distill.evaluation.set_source import SetSource
from distill.evaluation.thresholds import cosine_of, recommended_thresholds
from teachers.preprocessing import Preprocessing
from teachers.usable import UnusableEmbeddingsError
from tests.distill.evaluation.small_protocols import write_faces


@pytest.fixture(scope="module")
def drawn() -> DrawnImages:
    return DrawnImages(identities=30, images_each=4)


@pytest.fixture(scope="module")
def pairs(drawn: DrawnImages, tmp_path_factory: pytest.TempPathFactory) -> VerificationPairs:
    """20 pairs, alternating between genuine pairs and impostor pairs of two neighbours."""
    path = tmp_path_factory.mktemp("pairs") / "easy.bin"
    chosen = []
    for i in range(20):
        chosen += [drawn.read(4 * i), drawn.read(4 * i + (1 if i % 2 == 0 else 4))]
    write_pairs(path, chosen, [i % 2 == 0 for i in range(20)])
    return read_pairs(path)


def test_pairs_are_scored_with_the_ten_fold_protocol(pairs: VerificationPairs):
    report = evaluate(NetworkFeatures(GridEmbedder()), [pairs])["sets"]["easy"]
    assert report["kind"] == "pairs"
    assert report["digest"] == pairs.digest
    assert (report["pairs"], report["genuine"], report["impostors"]) == (20, 10, 10)
    assert report["accuracy"] >= 0.9
    assert report["val"]["val"] >= 0.9
    assert report["tar_at_far"]["1e-3"]["tar"] is None


def test_an_image_set_is_scored_over_all_its_pairs(drawn: DrawnImages):
    report = evaluate(NetworkFeatures(GridEmbedder()), [drawn])["sets"]["drawn"]
    assert report["kind"] == "all-pairs"
    assert report["digest"] == drawn.digest
    assert (report["genuine"], report["impostors"]) == (30 * 6, 120 * 119 // 2 - 30 * 6)
    assert report["tar_at_far"]["1e-2"]["tar"] > 0.9


def test_a_store_is_an_image_set(drawn_store: Store):
    report = evaluate(NetworkFeatures(GridEmbedder()), [drawn_store])["sets"][drawn_store.name]
    assert report["digest"] == drawn_store.digest
    assert (report["images"], report["identities"]) == (len(drawn_store), drawn_store.identities)


def test_the_result_is_strict_json_with_the_embedders_digests(drawn, pairs):
    embedder = GridEmbedder()
    result = evaluate(NetworkFeatures(embedder), [pairs, drawn])
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["embedder"] == "grid"
    assert result["preprocessing"] == embedder.preprocessing.digest


def test_each_image_of_pairs_is_embedded_once_with_mirror(pairs: VerificationPairs):
    embedder = GridEmbedder()
    evaluate(NetworkFeatures(embedder), [pairs])
    assert embedder.images_seen == 2 * len(set(pairs.images)) < 2 * len(pairs.images)


def test_progress_runs_over_all_sets(drawn, pairs):
    seen: list[tuple[int, int]] = []
    evaluate(
        NetworkFeatures(GridEmbedder()),
        [pairs, drawn],
        lambda done, total: seen.append((done, total)),
    )
    total = len(set(pairs.images)) + len(drawn)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_a_damaged_image_is_named(drawn: DrawnImages):
    damaged = DrawnImages(identities=3, images_each=2)
    damaged.encoded[4] = b"no image"
    with pytest.raises(UserError, match="drawn, image 4"):
        evaluate(NetworkFeatures(GridEmbedder()), [damaged])


def test_two_sets_with_the_same_name_are_refused(drawn: DrawnImages):
    with pytest.raises(UserError, match="two have the same name"):
        evaluate(NetworkFeatures(GridEmbedder()), [drawn, drawn])


def pairs_of(drawn: DrawnImages, same: list[bool]) -> VerificationPairs:
    """Genuine pairs where ``same``, otherwise impostor pairs, in that order."""
    images = []
    for number, each in enumerate(same):
        first = 4 * (number % 29)
        images += [drawn.read(first), drawn.read(first + (1 if each else 4))]
    return VerificationPairs(images, np.array(same), "e" * 64, "odd")


def assert_no_accuracy(report: dict, reason: str) -> None:
    assert re.search(reason, report["reason"])
    scores = ("accuracy", "std", "threshold", "cosine_threshold", "tar", "far")
    assert {report[name] for name in scores} == {None}
    assert {report["val"][name] for name in ("val", "far", "std")} == {None}


@pytest.mark.parametrize(
    ("same", "reason"),
    [
        ([True] * 60, "0 impostor pairs are too few for ten folds"),
        ([False] * 60, "0 genuine pairs are too few for ten folds"),
        ([True, False, True, False, True], "3 genuine pairs are too few"),
        ([True] * 30 + [False] * 30, "pairs 0 to 5, one of the ten folds, are all genuine"),
    ],
)
def test_pairs_without_an_accuracy_recommend_nothing(drawn, same, reason):
    odd = pairs_of(drawn, same)
    result = evaluate(NetworkFeatures(GridEmbedder()), [odd])
    assert_no_accuracy(result["sets"]["odd"], reason)
    thresholds = result["thresholds"]
    assert thresholds["best_accuracy"] is None
    assert set(thresholds["false_accept_rates"].values()) == {None}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert re.search(reason, why_no_accuracy(odd))
    with pytest.raises(UserError, match=f"nothing can be measured with this set.*{reason}"):
        check_measurable(odd)


def test_pairs_sorted_by_kind_still_give_a_tar(drawn: DrawnImages):
    odd = pairs_of(drawn, [True] * 1000 + [False] * 1000)
    check_measurable(odd)
    report = evaluate(NetworkFeatures(GridEmbedder()), [odd])["sets"]["odd"]
    assert_no_accuracy(report, "are all genuine; order the pairs")
    assert report["tar_at_far"]["1e-2"]["tar"] > 0.9


def test_pairs_of_one_image_give_nothing(drawn: DrawnImages):
    same = np.arange(2000) % 2 == 0
    odd = VerificationPairs([drawn.read(0)] * 4000, same, "e" * 64, "odd")
    report = evaluate(NetworkFeatures(GridEmbedder()), [odd])["sets"]["odd"]
    assert_no_accuracy(report, "4,000 images are all the same file")
    assert {rate["tar"] for rate in report["tar_at_far"].values()} == {None}
    with pytest.raises(UserError, match="all the same file"):
        check_measurable(odd)


class BrokenEmbedder(GridEmbedder):
    """Returns ``value`` as the embedding of every image that equals the first."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def embed(self, images: np.ndarray) -> np.ndarray:
        features = super().embed(images)
        features[0] = self.value
        return features


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_embeddings_without_length_are_refused(pairs, value, tmp_path: Path):
    answers = NetworkFeatures(BrokenEmbedder(value), tmp_path)
    for _ in range(2):
        with pytest.raises(UnusableEmbeddingsError, match=r"easy: .* of image 0 is zero or not"):
            evaluate(answers, [pairs])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_damaged_kept_embeddings_are_computed_again(pairs, tmp_path: Path):
    answers = NetworkFeatures(GridEmbedder(), tmp_path)
    whole = answers.features(pairs).copy()
    (kept,) = tmp_path.rglob("*.npy")
    damaged = whole.copy()
    damaged[3] = np.nan
    np.save(kept, damaged)
    np.testing.assert_array_equal(answers.features(pairs), whole)
    np.save(kept, damaged)
    np.testing.assert_array_equal(answers.embedded(pairs).unit, whole)
    np.testing.assert_array_equal(np.load(kept), whole)


class ConstantEmbedder(GridEmbedder):
    """A collapsed network."""

    def embed(self, images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), 48), np.float32)


def test_a_constant_embedding_is_refused(pairs):
    with pytest.raises(UnusableEmbeddingsError, match="all 40 images have the same embedding"):
        evaluate(NetworkFeatures(ConstantEmbedder()), [pairs])


def test_the_accuracy_threshold_is_reported_with_its_rates(pairs: VerificationPairs):
    result = evaluate(NetworkFeatures(GridEmbedder()), [pairs])
    report, best = result["sets"]["easy"], result["thresholds"]["best_accuracy"]
    assert (best["far"], best["tar"]) == (report["far"], report["tar"])
    assert (best["genuine"], best["impostors"]) == (10, 10)
    assert report["far"] <= 0.1
    assert report["tar"] >= 0.9
    assert "10 impostor pairs cannot show a FAR of 1e-3" in report["val"]["note"]


def report_of(impostors: int, threshold: float | None) -> dict:
    rates = {f"1e-{n}": {"tar": None, "cosine_threshold": None} for n in range(2, 9)}
    if threshold is not None:
        rates["1e-2"] = {"tar": 0.9, "cosine_threshold": threshold}
    digest = hashlib.sha256(str(impostors).encode()).hexdigest()
    common = {"digest": digest, "genuine": 5, "impostors": impostors, "tar_at_far": rates}
    scores = {"accuracy": 0.99, "cosine_threshold": 0.25, "tar": 0.9, "far": 0.05}
    return common | {"kind": "pairs", "pairs": 5 + impostors} | scores


def test_the_set_with_the_most_impostors_gives_the_threshold():
    reports = {"a": report_of(3, 0.1), "b": report_of(9, 0.2), "c": report_of(99, None)}
    found = recommended_thresholds(reports)
    assert found["false_accept_rates"]["1e-2"]["threshold"] == 0.2
    assert found["false_accept_rates"]["1e-2"]["set"] == "b"
    assert found["false_accept_rates"]["1e-3"] is None
    assert found["best_accuracy"]["set"] == "c"


@pytest.mark.parametrize("accuracy", [None, 0.0, 0.5, 0.95, 99 / 104], ids=str)
def test_a_set_where_a_constant_answer_does_has_no_threshold(accuracy: float | None):
    """99 of 104 pairs are impostors: always answering "no" has accuracy 0.952."""
    report = report_of(99, None) | {"accuracy": accuracy}
    assert recommended_thresholds({"a": report})["best_accuracy"] is None


def test_without_sets_there_are_no_thresholds():
    found = recommended_thresholds({})
    assert set(found["false_accept_rates"].values()) == {None}
    assert found["best_accuracy"] is None


def test_a_squared_distance_converts_to_a_cosine():
    assert [cosine_of(distance) for distance in (0.0, 2.0, 4.0)] == [1, 0, -1]


def test_a_real_teacher_reaches_its_known_accuracy(tmp_path: Path):
    import os

    folder = os.environ.get("FACE_DISTILL_REAL_DATA")
    if not folder:
        pytest.skip("FACE_DISTILL_REAL_DATA does not name a folder with real faces")
    from teachers.foreign import OnnxEmbedder

    lfw = read_pairs(Path(folder) / "faces" / "lfw.bin")
    part = VerificationPairs(lfw.images[:400], lfw.same[:200], lfw.digest, lfw.name)
    path = Path(folder) / "teacher" / "mobilefacenet_y1_ms1m.onnx"
    report = evaluate(
        NetworkFeatures(OnnxEmbedder(path, Preprocessing(colour="RGB", mean=0, std=1))), [part]
    )["sets"]["lfw"]
    assert report["accuracy"] > 0.97


def test_a_network_embeds_a_set_once(pairs, drawn, tmp_path: Path):
    embedder = GridEmbedder()
    first = evaluate(NetworkFeatures(embedder, tmp_path), [pairs, drawn])
    seen = embedder.images_seen
    assert evaluate(NetworkFeatures(embedder, tmp_path), [pairs, drawn]) == first
    assert embedder.images_seen == seen


def test_a_workspace_that_cannot_be_written_keeps_nothing(pairs, tmp_path: Path, monkeypatch):
    network = GridEmbedder()
    monkeypatch.setattr(set_features, "can_make_files", lambda folder: False)
    found = NetworkFeatures(network, tmp_path / "kept").features(pairs)
    np.testing.assert_array_equal(found, NetworkFeatures(network).features(pairs))
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


def test_damaged_features_are_computed_again(pairs, tmp_path: Path):
    first = evaluate(NetworkFeatures(GridEmbedder(), tmp_path), [pairs])
    (kept,) = tmp_path.rglob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert evaluate(NetworkFeatures(GridEmbedder(), tmp_path), [pairs]) == first


def test_given_embeddings_are_scored_like_the_networks(pairs, drawn, tmp_path: Path):
    network = NetworkFeatures(GridEmbedder())
    for each in (pairs, drawn):
        np.save(tmp_path / f"{each.name}.npy", 3 * network.features(each))
    given = evaluate(GivenFeatures(tmp_path), [pairs, drawn])
    assert given["sets"].keys() == {"easy", "drawn"}
    expected = evaluate(network, [pairs])["sets"]["easy"]
    assert given["sets"]["easy"]["accuracy"] == expected["accuracy"]


@pytest.mark.parametrize("kind", ["<f2", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_given_embeddings_are_floats_of_any_size(kind: str, order: str, pairs, tmp_path: Path):
    raw = np.random.default_rng(0).normal(size=(40, 8)).astype(kind)
    np.save(tmp_path / "easy.npy", np.asarray(raw, order=order))
    found = GivenFeatures(tmp_path).embedded(pairs)
    norms = np.linalg.norm(raw.astype(np.float64), axis=1)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(found.unit, raw / norms[:, None], atol=1e-5)
    assert found.unit.dtype == np.float32


_GIVEN = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


def _with_row(value: float) -> np.ndarray:
    changed = _GIVEN.copy()
    changed[7] = value
    return changed


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (_GIVEN[:3], "float32 [3, 8]; expected float32 [40, D] (or float16, float64)"),
        (_GIVEN[0], "float32 [8]; expected float32 [40, D]"),
        (_GIVEN.astype(np.int32), "int32 [40, 8]; expected float32 [40, D]"),
        (_GIVEN[:, :0], "the embeddings have 0 dimensions; allowed: 1 to 65,536"),
        (_GIVEN.astype(object), "numbers are expected; expected float32 [40, D]"),
        (_with_row(np.nan), "easy.npy, embeddings of easy: row 7 is zero or not finite"),
        (_with_row(np.inf), "row 7 is zero or not finite (1 of 40 are)"),
        (_with_row(0), "row 7 is zero or not finite (1 of 40 are)"),
        (None, "no embeddings of easy; write easy.npy: float32 [40, D]"),
    ],
    ids=["rows", "axes", "integers", "no-dimension", "objects", "nan", "infinite", "zero", "none"],
)
def test_unusable_embeddings_are_refused(array, said: str, pairs, tmp_path: Path):
    if array is not None:
        np.save(tmp_path / "easy.npy", array)
    with pytest.raises(UserError, match=re.escape(said)):
        evaluate(GivenFeatures(tmp_path), [pairs])


def test_embeddings_beyond_the_memory_are_refused(pairs, tmp_path: Path, monkeypatch):
    free = SimpleNamespace(available=4 * 40 * 8 - 1)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    np.save(tmp_path / "easy.npy", _GIVEN)
    with pytest.raises(UserError, match=r"of memory as float32, and .* GiB are free"):
        GivenFeatures(tmp_path).check(pairs)


def test_a_sparse_file_of_terabytes_is_refused_at_once(pairs, tmp_path: Path):
    path = tmp_path / "easy.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (40, 10**10)}
        )
        file.truncate(file.tell() + 4 * 40 * 10**10)
    with pytest.raises(UserError, match="the embeddings have 10,000,000,000 dimensions"):
        GivenFeatures(tmp_path).check(pairs)


def test_a_pipe_instead_of_embeddings_is_named(pairs, tmp_path: Path):
    os.mkfifo(tmp_path / "easy.npy")
    with pytest.raises(UserError, match="it is a named pipe"):
        GivenFeatures(tmp_path).check(pairs)


def test_rows_follow_the_list_of_pairs_not_its_folds(tmp_path: Path):
    """Pairs sorted by kind are reordered into folds; the rows of a user's file are not."""
    write_faces(tmp_path, [f"{i}.jpg" for i in range(8)], (8, 8))
    files = [(tmp_path / f"{i}.jpg").read_bytes() for i in range(8)]
    sides = list(combinations(range(8), 2))[:24]
    (tmp_path / "list.txt").write_text(
        "".join(f"{a}.jpg {b}.jpg {int(place < 12)}\n" for place, (a, b) in enumerate(sides))
    )
    vectors = np.random.default_rng(0).normal(size=(48, 8)).astype(np.float32)
    vectors[1:24:2] = vectors[:24:2]
    np.save(tmp_path / "list.npy", vectors)
    opened = SetSource(tmp_path / "list.txt").open()
    assert not opened.same[:12].all()
    report = evaluate(GivenFeatures(tmp_path), [opened], intervals=False)["sets"]["list"]
    assert report["auc"] == 1
    names = [files.index(image) for image in opened.images]
    assert [sides[number // 2][number % 2] for number in opened.numbers] == names


def test_other_embeddings_of_the_folder_are_listed(pairs, tmp_path: Path):
    np.save(tmp_path / "hard.npy", _GIVEN)
    with pytest.raises(UserError, match=r"no embeddings of easy; .*; the folder has hard\.npy"):
        GivenFeatures(tmp_path).check(pairs)
