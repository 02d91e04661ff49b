"""`distill evaluate`, `identify` and `compare --on`: any model on any set."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from curation.pairs import read_pairs
from curation.store import Store
from curation.view_writing import write_subset
from curation.views import View
from distill.cli.main import app
from distill.export.bundle_files import check_bundle
from distill.export.embedder import BundleEmbedder
from tests.distill.cli.twelve_people import twelve_people
from tests.distill.evaluation.small_protocols import write_ijb


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """12 people with 8 images each, in the workspace `place`."""
    return twelve_people(tmp_path_factory.mktemp("people"), np.random.default_rng(0))


@pytest.fixture(scope="module")
def place(people: Store, drawn_folder: Path) -> Path:
    """A workspace with a store and pairs, and embeddings of both by two "networks"."""
    datasets = people.path.parent
    root = datasets.parent.parent
    (datasets / "pairs.bin").write_bytes((drawn_folder / "pairs.bin").read_bytes())
    pairs = read_pairs(datasets / "pairs.bin")
    generator = np.random.default_rng(0)
    faces = generator.normal(size=(12, 16))[people.labels]
    answers = np.repeat(generator.normal(size=(len(pairs), 16)), 2, axis=0)
    answers[1::2][~pairs.same] = generator.normal(size=(int((~pairs.same).sum()), 16))
    for name, noise in (("good", 0.3), ("poor", 2.0)):
        (root / name).mkdir()
        for each, vectors in (("train", faces), ("pairs", answers)):
            noisy = vectors + noise * generator.normal(size=vectors.shape)
            np.save(root / name / f"{each}.npy", noisy.astype(np.float32))
    return root


def write_view_of(store: Store, rows: np.ndarray, path: Path) -> View:
    keep = np.zeros(len(store), bool)
    keep[rows] = True
    return write_subset(path, store, keep, "chosen", {})


def run(place: Path, *words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--workspace", str(place)])
    assert done.exit_code == status, done.output + str(done.exception)
    return str(done.exception) if status else done.stdout


def test_foreign_embeddings_are_scored(place: Path):
    report = json.loads(
        run(place, "evaluate", str(place / "good"), "drawn/pairs", "drawn/train", "--json")
    )
    pairs, train = report["sets"]["pairs"], report["sets"]["train"]
    low, high = pairs["accuracy_interval"]
    assert low <= pairs["accuracy"] <= high
    assert train["kind"] == "all-pairs"
    assert train["tar_at_far"]["1e-2"]["tar"] > 0.9
    assert len(report["embedder"]) == len(pairs["digest"]) == 64


def test_a_set_may_be_named_without_its_data_set(place: Path):
    bare, full = (
        json.loads(run(place, "evaluate", str(place / "good"), f"{before}pairs", "--json"))
        for before in ("", "drawn/")
    )
    assert bare == full


def test_the_table_names_set_measure_value_and_interval(place: Path):
    lines = run(place, "evaluate", str(place / "good"), "drawn/train").splitlines()
    assert lines[0].split() == ["set", "measure", "value", "95", "%", "interval", "threshold"]
    assert lines[2].startswith("train  area under the ROC")
    assert lines[3].startswith("train  equal error rate")
    assert lines[4].startswith("train  TAR at FAR 1e-2")
    assert all(" to " in line for line in lines[2:5])


def test_people_are_identified_with_one_image_enrolled(place: Path, people: Store):
    report = json.loads(run(place, "identify", str(place / "good"), "drawn/train", "--json"))
    assert report["gallery"]["images"] == people.identities
    assert report["probes"]["images"] == len(people) - people.identities
    assert report["closed_set"]["ranks"]["1"]["rate"] > 0.9
    assert "rank 1" in run(place, "identify", str(place / "good"), "drawn/train")


def test_a_gallery_may_be_another_view_of_the_store(place: Path, people: Store):
    datasets = place / "datasets" / "drawn"
    first = np.flatnonzero(people.labels < 4)
    enrolled, asked = first[::2], np.setdiff1d(np.arange(len(people)), first[::2])
    for name, rows in (("enrolled", enrolled), ("asked", asked)):
        view = write_view_of(people, rows, datasets / f"{name}.view")
        vectors = np.load(place / "good" / "train.npy")[rows]
        np.save(place / "good" / f"{name}.npy", vectors)
        assert len(view) == len(rows)
    report = json.loads(
        run(
            place, "identify", str(place / "good"), "drawn/asked", "--gallery", "drawn/enrolled",
            "--json",
        )
    )  # fmt: skip
    assert report["open_set"]["mated"] == len(first) - len(enrolled)
    assert report["open_set"]["unmated"] == len(people) - len(first)
    assert report["closed_set"]["ranks"]["1"]["rate"] > 0.9


def test_a_gallery_with_images_of_the_probes_is_refused(place: Path):
    refused = run(
        place, "identify", str(place / "good"), "drawn/train", "--gallery", "drawn/train", status=1
    )
    assert "would find themselves" in refused


def test_a_gallery_without_people_of_the_probes_is_refused(place: Path, people: Store):
    datasets = place / "datasets" / "drawn"
    for name, of in (("some", people.labels < 4), ("others", people.labels >= 4)):
        write_view_of(people, np.flatnonzero(of), datasets / f"{name}.view")
    refused = run(
        place, "identify", str(place / "good"), "drawn/some", "--gallery", "drawn/others", status=1
    )
    assert "have no person in common" in refused


def test_single_images_are_searched_among_distractors(place: Path, people: Store):
    datasets, vectors = place / "datasets" / "drawn", np.load(place / "good" / "train.npy")
    of = [np.flatnonzero(people.labels == person) for person in range(12)]
    parts = {
        "single": [rows[0] for rows in of[:4]],
        "known": [rows[1] for rows in of[:4]],
        "strangers": np.concatenate(of[4:]),
    }
    for name, rows in parts.items():
        write_view_of(people, np.sort(rows), datasets / f"{name}.view")
        np.save(place / "good" / f"{name}.npy", vectors[np.sort(rows)])
    words = ["identify", str(place / "good"), "drawn/single", "--gallery", "drawn/known"]
    words += ["--distractors", "drawn/strangers"]
    report = json.loads(run(place, *words, "--json"))
    assert report["closed_set"]["probes"] == 4
    assert report["among_distractors"] == {"reason": "no identity of single has two images"}
    assert "rank 1 " in run(place, *words)


def test_two_models_differ_by_more_than_noise_or_not(place: Path):
    words = ["compare", str(place / "poor"), str(place / "good"), "--on", "drawn/train", "--json"]
    report = json.loads(run(place, *words))
    (first, *_) = report["sets"]["train"]
    assert first["measure"] == "TAR at FAR 1e-2"
    assert first["second"] > first["first"]
    assert first["more_than_noise"]
    assert len(report["digests"]["train"]) == 64
    assert [*report["embedders"]] == report["models"]
    table = run(place, *words[:-1])
    assert "more than noise" in table


def test_on_takes_two_models(place: Path):
    refused = run(
        place, "compare", *(str(place / each) for each in ("poor", "good")), str(place),
        "--on", "drawn/train", status=1,
    )  # fmt: skip
    assert "--on compares two models, and 3 are given" in refused


@pytest.mark.parametrize("name", ["differences.svg", "differences.PNG"])
def test_a_comparison_is_drawn_on_request(place: Path, tmp_path: Path, name: str):
    picture = tmp_path / name
    models = [str(place / each) for each in ("poor", "good")]
    told = run(place, "compare", *models, "--on", "drawn/train", "--picture", str(picture))
    assert "more than noise" in told
    content = picture.read_bytes()
    if name.endswith("svg"):
        assert b"good minus poor" in content
        assert b"train: TAR at FAR 1e-2" in content
    else:
        assert content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--picture", "a.svg"],
            "--picture draws the differences on a set; give the set with --on",
        ),
        (
            ["--on", "drawn/train", "--picture", "a.jpg"],
            "a.jpg: a drawing must be an .svg or .png file",
        ),
        (["--on", "drawn/train", "--picture", "no/a.svg"], "no: no such folder; make it first"),
    ],
)
def test_an_impossible_chart_is_refused_at_once(place: Path, words: list[str], expected: str):
    models = [str(place / each) for each in ("poor", "good")]
    assert expected in run(place, "compare", *models, *words, status=1)


def test_a_list_of_pairs_is_a_set(place: Path, people: Store, tmp_path: Path):
    lines, places = [], []
    for i in range(40):
        left, right = (2 * i) % len(people), (2 * i + (1 if i % 2 else 13)) % len(people)
        same = int(people.labels[left] == people.labels[right])
        for each in (left, right):
            (tmp_path / f"{each}.jpg").write_bytes(people.read(each))
        lines.append(f"{left}.jpg {right}.jpg {same}")
        places += [left, right]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    # The order of a list is changed to form folds, so the embeddings must not depend on it.
    vectors = np.load(place / "good" / "train.npy")
    folder = tmp_path / "model"
    folder.mkdir()
    np.save(folder / "mine.npy", vectors[places])
    report = json.loads(
        run(
            place, "evaluate", str(folder), str(tmp_path / "mine.txt"), "--images", str(tmp_path),
            "--json",
        )
    )  # fmt: skip
    assert report["sets"]["mine"]["pairs"] == 40
    # The same list for a store, whose images have numbers.
    (tmp_path / "rows.txt").write_text("\n".join(line.replace(".jpg", "") for line in lines))
    (folder / "mine.npy").rename(folder / "rows-train.npy")
    listed = f"{tmp_path / 'rows.txt'}:drawn/train"
    of_store = json.loads(run(place, "evaluate", str(folder), listed, "--json"))
    assert of_store["sets"]["rows-train"]["digest"] == report["sets"]["mine"]["digest"]


def test_a_set_without_measures_is_refused_before_embedding(place: Path, people: Store):
    write_view_of(people, np.arange(3), place / "datasets" / "drawn" / "few.view")
    refused = run(place, "evaluate", str(place / "good"), "drawn/few", status=1)
    assert "no TAR can be measured at any FAR" in refused


@pytest.mark.parametrize("model", ["arrays", "arrays/train.npz", "good/train.npy", "arrays/a.CSV"])
def test_embeddings_in_another_form_are_not_a_network(place: Path, model: str):
    (place / "arrays").mkdir(exist_ok=True)
    np.savez(place / "arrays" / "train.npz", np.zeros((96, 4)))
    (place / "arrays" / "a.CSV").write_text("0,1\n")
    refused = run(place, "evaluate", str(place / model), "drawn/train", status=1)
    assert "is not a network; embeddings are read from a folder with SET.npy" in refused


def test_a_missing_model_is_named(place: Path):
    refused = run(place, "evaluate", "no-such-model", "drawn/pairs", status=1)
    assert "no-such-model" in refused


def test_a_threshold_has_its_interval(place: Path):
    words = ["threshold", str(place / "good"), "drawn/train", "--far", "1e-2"]
    report = json.loads(run(place, *words, "--json"))
    low, high = report["threshold_interval"]
    assert low <= report["threshold"] <= high
    assert report["set"] == "train"
    assert f"cosine > {report['threshold']:.4f}" in run(place, *words)


def test_an_unmeasurable_rate_is_refused(place: Path):
    words = ["threshold", str(place / "good"), "drawn/train", "--far"]
    assert "insufficient pairs" in run(place, *words, "1e-6", status=1)
    assert "allowed are 1e-2" in run(place, *words, "0.5", status=1)


def test_thresholds_go_into_a_copy_of_the_bundle(place: Path, small_bundle: Path):
    target = place / "bundles" / "office"
    words = ["threshold", str(small_bundle), "drawn/train", "--far", "1e-2", "--into", str(target)]
    report = json.loads(run(place, *words, "--json"))
    _, thresholds = check_bundle(target)
    rate = thresholds.false_accept_rates["1e-2"]
    assert rate is not None
    assert (rate.threshold, rate.set) == (report["threshold"], "train")
    assert "| train |" in (target / "README.md").read_text()
    assert json.loads((target / "evaluation.json").read_text())["sets"].keys() == {"easy", "train"}
    assert BundleEmbedder(target).check_golden() > 0.9999
    assert "holds a different or damaged bundle" in run(place, *words, status=1)


def test_only_a_bundle_has_a_copy_with_thresholds(place: Path, tmp_path: Path):
    (tmp_path / "network.onnx").write_bytes(b"")
    refused = run(
        place, "threshold", str(tmp_path / "network.onnx"), "drawn/train", "--into",
        str(tmp_path / "copy"), status=1,
    )  # fmt: skip
    assert "--into copies a bundle" in refused


def test_a_published_protocol_is_named_with_its_folder(place: Path, tmp_path: Path):
    write_ijb(tmp_path / "IJBC")
    answers = np.random.default_rng(0).normal(size=(48, 16)).astype(np.float32)
    (tmp_path / "answers").mkdir()
    np.save(tmp_path / "answers" / "ijbc.npy", answers)
    words = ["evaluate", str(tmp_path / "answers"), f"ijbc:{tmp_path / 'IJBC'}"]
    report = json.loads(run(place, *words, "--json"))["sets"]["ijbc"]
    assert report["weights"] == {"norm": True, "detector": True}
    table = run(place, *words, "--template-weights", "none")
    assert "all: rank 1" in table
    assert "as in papers: TAR near FPR 1e-1" in table
    refused = run(place, *words, "--template-weights", "all", status=1)
    assert "allowed: norm+detector, norm, detector, none" in refused
    refused = run(place, "threshold", *words[1:], status=1)
    assert "is a protocol, which `distill evaluate` and `distill report` take" in refused


def test_a_table_of_groups_fits_the_screen(place: Path, tmp_path: Path):
    vectors = np.load(place / "good" / "pairs.npy")
    for name, norms in (("plain", np.linspace(1, 9, len(vectors))), ("unit", [1.0])):
        (tmp_path / name).mkdir()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        longer = unit * np.array(norms)[:, None]
        np.save(tmp_path / name / "pairs.npy", longer.astype(np.float32))
    words = ("drawn/pairs", "--slices", "quality")
    printed = run(place, "evaluate", str(tmp_path / "plain"), *words)
    table = printed[printed.index("pairs by quality") :].splitlines()
    assert max(map(len, table)) <= 80
    assert any(line.startswith("lowest tenth") for line in table)
    refused = run(place, "evaluate", str(tmp_path / "unit"), *words)
    assert "pairs by quality: all embeddings have the norm 1" in refused
