"""The evaluation page: its measurements, its table and its contents."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from curation.errors import UserError
from curation.images import encode_jpeg
from curation.pairs import VerificationPairs
from distill.evaluation import all_pairs
from distill.evaluation.evaluate_sets import score_all, score_pairs
from distill.evaluation.features import Embedded
from distill.evaluation.figures import unmeasured
from distill.evaluation.paired import PairedDifference, check_comparable, compared, differences
from distill.evaluation.protocols.protocol import open_protocol
from distill.evaluation.report.measured import NetworkOnSet
from distill.evaluation.report.measured import measure as measure_embedded
from distill.evaluation.report.page import ReportedNetwork, SetResults, charts, page, write_page
from distill.evaluation.report.rows import figure_rows
from tests.curation.parsed_page import Node, parse_page
from tests.distill.evaluation.features_of_people import normalised, unit_features
from tests.distill.evaluation.small_protocols import (
    write_ijb,
    write_lfr,
    write_megaface,
    write_tinyface,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class People:
    """An image set in memory that records which images were read."""

    name, digest = "people <b>&</b>", "d" * 64

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = np.sort(labels)
        self.read_images: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, i: int) -> bytes:
        self.read_images.append(i)
        return b"no picture" if i % 7 == 0 else encode_jpeg(np.full((16, 16, 3), i % 256, np.uint8))


def people(images: int = 300, spread: float = 0.5) -> tuple[People, np.ndarray]:
    features, labels = unit_features(images, 20, 0, spread)
    return People(labels), features[np.argsort(labels, kind="stable")]


def pairs(count: int = 200) -> tuple[VerificationPairs, np.ndarray]:
    features, _ = unit_features(2 * count, 2 * count, 0)
    same = np.arange(count) % 2 == 0
    features[1::2][same] = features[::2][same] + 0.3 * features[1::2][same]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    images = [encode_jpeg(np.full((8, 8, 3), n % 256, np.uint8)) + bytes([n % 256, n // 256])
              for n in range(2 * count)]  # fmt: skip
    return VerificationPairs(images, same, "e" * 64, "drawn"), features


def measure(features: np.ndarray, each: object, worst: int) -> NetworkOnSet:
    return measure_embedded(Embedded(features, np.ones(len(features), np.float32)), each, worst)


def results(names: list[str]) -> tuple[list[ReportedNetwork], list[SetResults]]:
    """Two sets, and networks that are each worse than the previous one."""
    generator = np.random.default_rng(0)
    found = []
    for each, features in (people(), pairs()):
        measured = {}
        for number, name in enumerate(names):
            noisy = features + 0.2 * number * generator.normal(size=features.shape)
            noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
            measured[name] = measure(noisy.astype(np.float32), each, 5)
        first = measured[names[0]].measures
        differences = {name: compared(first, measured[name].measures) for name in names[1:]}
        found.append(SetResults(each, measured, {}, differences))
    return [ReportedNetwork(name, f"{n:064}", "ours") for n, name in enumerate(names)], found


def test_the_worst_pairs_of_a_set_match_a_sort():
    each, features = people()
    measured = measure(features, each, 10)
    left, right = np.triu_indices(len(each), 1)
    scores = np.einsum("nd,nd->n", features[left], features[right])
    same = each.labels[left] == each.labels[right]
    for found, expected in (
        (measured.accepts, -np.sort(-scores[~same])[:10]),
        (measured.rejects, np.sort(scores[same])[:10]),
    ):
        assert [pair.score for pair in found] == pytest.approx(expected, abs=1e-6)
        for pair in found:
            assert pair.score == pytest.approx(features[pair.left] @ features[pair.right], abs=1e-6)
    assert all(each.labels[pair.left] != each.labels[pair.right] for pair in measured.accepts)
    assert all(each.labels[pair.left] == each.labels[pair.right] for pair in measured.rejects)


def test_the_worst_pairs_of_a_list_belong_to_it():
    each, features = pairs()
    measured = measure(features, each, 10)
    cosines = np.einsum("nd,nd->n", features[::2], features[1::2])
    assert [p.score for p in measured.accepts] == pytest.approx(-np.sort(-cosines[~each.same])[:10])
    assert [p.score for p in measured.rejects] == pytest.approx(np.sort(cosines[each.same])[:10])
    assert all(pair.left % 2 == 0 and pair.right == pair.left + 1 for pair in measured.rejects)


def test_a_report_equals_that_of_an_evaluation():
    each, features = people()
    assert measure(features, each, 3).report.items() >= score_all(features, each.labels).items()
    listed, answers = pairs()
    assert measure(answers, listed, 3).report == score_pairs(answers, listed)


def test_too_many_genuine_pairs_are_measured_but_not_compared(monkeypatch):
    each, features = people()
    whole = measure(features, each, 3)
    monkeypatch.setattr(all_pairs, "MOST_GENUINE", 10)
    counted = measure(features, each, 3)
    assert counted.measures is None
    assert counted.accepts == whole.accepts
    assert counted.curve.tar.tolist() == whole.curve.tar.tolist()
    rates = [each.report["tar_at_far"]["1e-2"]["tar"] for each in (counted, whole)]
    assert rates[0] == pytest.approx(rates[1])
    with pytest.raises(UserError, match="too many to compare networks, at most 10; give a view"):
        check_comparable(each)


def test_rates_that_a_gallery_does_not_measure_are_named():
    few = {"fnir": None, "reason": "too few strangers"}
    gallery = {"open_set": {"fnir_at_fpir": {"1e-1": {"fnir": 0.1}, "1e-2": few}}}
    report = {"galleries": {"G1": gallery}, "tar_at_far": {"1e-2": {"tar": 0.5}}}
    assert list(unmeasured(report)) == ["G1: FPIR 1e-2: too few strangers"]


def test_people_with_several_images_are_searched_too():
    each, features = people()
    found = measure(features, each, 3).report
    ranks = found["closed_set"]["ranks"]
    assert found["closed_set"]["probes"] == len(each) - len(np.unique(each.labels))
    assert 0 < ranks["1"]["rate"] <= ranks["5"]["rate"] <= 1
    rows = {row.measure: row.cells[0] for row in figure_rows([found], [])}
    assert rows["rank 1"].value == f"{ranks['1']['rate']:.4f}"
    assert rows["rank 1"].interval


def test_a_published_evaluation_has_its_figures_and_no_pairs(tmp_path: Path):
    write_tinyface(tmp_path)
    each = open_protocol("tinyface", tmp_path)
    generator = np.random.default_rng(0)
    subjects, section = [], {}
    for number, name in enumerate(("one", "two")):
        features = normalised(generator.normal(size=(len(each.faces), 8)))
        subjects.append(ReportedNetwork(name, f"{number:064}", "ours"))
        section[name] = measure(features, each, 3)
    text = page(subjects, [SetResults(each, section)]).decode()
    assert section["one"].curve is None
    assert "a published protocol: 8 probes, 16 enrolled faces, 20 distractors" in text
    assert f"{section['two'].report['closed_set']['ranks']['1']['rate']:.4f}" in text
    assert "rank 20" in text
    assert "The networks are not compared on the same draws of people here" in text
    assert '<svg class="drawing' not in text
    assert charts(subjects, [SetResults(each, section)]) == {}


@pytest.mark.parametrize(
    ("name", "write"),
    [("ijbc", write_ijb), ("lfr", write_lfr), ("megaface", write_megaface)],
    ids=["ijbc", "lfr", "megaface"],
)
def test_a_published_evaluation_of_pairs_has_curves(
    tmp_path: Path, name: str, write: Callable[[Path], None]
):
    write(tmp_path)
    each = open_protocol(name, tmp_path)
    features = normalised(np.random.default_rng(0).normal(size=(len(each.faces), 8)))
    measured = measure(features, each, 3)
    report = measured.report
    assert measured.genuine is not None
    assert measured.genuine.sum() == pytest.approx(1)
    assert measured.curve.far.min() * report["impostors"] >= 9.99
    rate = report["tar_at_far"]["1e-2"]
    nearest = np.argmin(np.abs(measured.curve.thresholds - rate["cosine_threshold"]))
    assert measured.curve.tar[nearest] == pytest.approx(rate["tar"], abs=0.02)
    results = [SetResults(each, {"one": measured})]
    text = page([ReportedNetwork("one", "0" * 64, "ours")], results).decode()
    assert text.count('<svg class="drawing') == 3
    assert [*charts([ReportedNetwork("one", "0" * 64, "ours")], results)] == [
        f"{name}-ROC",
        f"{name}-DET",
        f"{name}-scores of one",
    ]


def test_a_histogram_has_all_pairs():
    each, features = people()
    measured = measure(features, each, 0)
    assert measured.genuine.sum() == pytest.approx(1)
    assert measured.impostors.sum() == pytest.approx(1)
    left, right = np.triu_indices(len(each), 1)
    scores = np.einsum("nd,nd->n", features[left], features[right])
    same = each.labels[left] == each.labels[right]
    expected = np.histogram(scores[~same], np.linspace(-1, 1, 101))[0] / (~same).sum()
    np.testing.assert_allclose(measured.impostors, expected, atol=1e-3)


def report(tar: float, **more: object) -> dict:
    rates = {
        "1e-2": {"tar": tar, "cosine_threshold": 0.3, "interval": [tar - 0.01, tar + 0.01]},
        "1e-3": {"tar": None, "cosine_threshold": None, "reason": "too few"},
    }
    return {"auc": 0.9, "eer": 1 - tar, "tar_at_far": rates, **more}


def test_a_lower_equal_error_rate_is_better():
    lower = PairedDifference("equal error rate", 0.2, 0.1, [-0.15, -0.05])
    higher = PairedDifference("equal error rate", 0.2, 0.3, [0.05, 0.15])
    rows = figure_rows([report(0.8), report(0.9), report(0.7)], [[], [lower], [higher]])
    cells = next(row.cells for row in rows if row.measure == "equal error rate")
    assert [cell.verdict for cell in cells] == ["", "better", "worse"]


def test_pairs_are_compared_by_area_and_equal_error_too():
    each, features = pairs()
    noisy = features + 0.3 * np.random.default_rng(1).normal(size=features.shape)
    noisy = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    found = {one.measure: one for one in differences(features, noisy, each)}
    scored = score_pairs(features, each), score_pairs(noisy, each)
    for measure_name, key in (("area under the ROC", "auc"), ("equal error rate", "eer")):
        one = found[measure_name]
        assert [one.first, one.second] == pytest.approx([report[key] for report in scored])
        assert one.interval[0] <= one.second - one.first <= one.interval[1]


def test_a_row_marks_the_best_and_significant_differences():
    better = PairedDifference("TAR at FAR 1e-2", 0.8, 0.9, [0.05, 0.15])
    level = PairedDifference("TAR at FAR 1e-2", 0.8, 0.79, [-0.05, 0.02])
    worse = PairedDifference("TAR at FAR 1e-2", 0.8, 0.6, [-0.3, -0.1])
    given = [report(0.8), report(0.9), report(0.79), None, report(0.6)]
    rows = figure_rows(given, [[], [better], [level], [], [worse]])
    assert [row.measure for row in rows] == [
        "area under the ROC",
        "equal error rate",
        "TAR at FAR 1e-2",
    ]
    cells = rows[2].cells
    assert [None if each is None else each.verdict for each in cells] == [
        "", "better", "level", None, "worse",
    ]  # fmt: skip
    assert [number for number, each in enumerate(cells) if each and each.is_best] == [1]
    assert cells[1].interval == "0.8900 to 0.9100"
    assert [each.is_best for each in rows[0].cells if each] == [False] * 4  # all are level
    assert rows[1].cells[1].is_best  # the lowest error rate


@pytest.fixture(scope="module")
def shown() -> tuple[list[ReportedNetwork], list[SetResults]]:
    return results(["first", "<img src=x onerror=alert(1)>", "\u202ethird\x1b[0m"])


@pytest.fixture(scope="module")
def tree(shown: tuple[list[ReportedNetwork], list[SetResults]]) -> Node:
    return parse_page(page(*shown).decode())


def test_the_page_is_self_contained_and_runs_no_scripts(tree: Node):
    (policy,) = (m["content"] for m in tree.all("meta") if "http-equiv" in m.attributes)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not tree.all("script")
    assert all(each["src"].startswith("data:image/jpeg;base64,") for each in tree.all("img"))
    assert not any("style" in each.attributes for each in tree.walk())


def test_untrusted_names_are_escaped(shown, tree: Node):
    text = page(*shown).decode()
    assert "<b>&</b>" not in text
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert "people <b>&</b>" in tree.all("h2")[1].text


def test_the_page_has_curves_faces_and_figures_of_each_set(tree: Node):
    titles = [each.text for each in tree.all("h2")]
    assert titles == ["Networks", "people <b>&</b>", "drawn", "How to read this"]
    assert len(tree.all("svg")) >= 10
    captions = [each.text for each in tree.all("figcaption")]
    assert captions.count("ROC") == captions.count("DET") == 2
    pairs_shown = tree.all("div", "pairs")
    assert [len(each.all("figure")) for each in pairs_shown] == [5] * 12
    assert any("cannot be decoded" in each.text for each in tree.all("span", "broken"))
    assert any("people" in each and "images" in each for each in captions)


def test_only_shown_faces_are_read():
    each, features = people()
    subject = ReportedNetwork("one", "0" * 64, "ours")
    page([subject], [SetResults(each, {"one": measure(features, each, 4)})])
    assert 0 < len(each.read_images) == len(set(each.read_images)) <= 16


def test_a_network_without_features_is_named_with_the_reason():
    each, features = people()
    subjects = [ReportedNetwork("one", "0" * 64, "ours"), ReportedNetwork("two", "1" * 64, "ours")]
    measured = {"two": measure(features, each, 0)}
    text = parse_page(
        page(subjects, [SetResults(each, measured, {"one": "no embeddings of people"})]).decode()
    ).text
    assert "not measured one: no embeddings of people" in text


def test_the_same_input_gives_the_same_bytes(shown):
    assert page(*shown) == page(*shown)


def test_every_chart_of_the_page_has_a_name(shown):
    names = list(charts(*shown))
    assert len(names) == 2 * (2 + 3)
    assert "drawn-ROC" in names


def test_twenty_networks_fit_on_a_page():
    each, features = people(60)
    one = measure(features, each, 1)
    subjects = [ReportedNetwork(f"network {n}", f"{n:064}", "ours") for n in range(20)]
    measured: dict[str, NetworkOnSet] = {subject.name: one for subject in subjects}
    tree = parse_page(page(subjects, [SetResults(each, measured)]).decode())
    assert len(tree.all("details")) == 20


@pytest.mark.parametrize("width", [1440, 360])
def test_long_names_do_not_widen_the_page(width: int, tmp_path: Path, chromium: "Browser"):
    each, features = people(60)
    names = ["first", "n" * 200]
    measured = {name: measure(features, each, 1) for name in names}
    subjects = [ReportedNetwork(name, f"{n:064}", "ours") for n, name in enumerate(names)]
    write_page(tmp_path / "page.html", page(subjects, [SetResults(each, measured)]))
    with chromium.new_context(viewport={"width": width, "height": 740}) as context:
        window = context.new_page()
        window.goto((tmp_path / "page.html").as_uri())
        assert window.evaluate("document.documentElement.scrollWidth") == width
        cells = window.locator("tr", has_text="n" * 200).first.locator("td").all()
        edges = [cell.bounding_box() for cell in cells]
        contents = [cell.locator("code").bounding_box() for cell in cells]
        for cell, code in zip(edges, contents, strict=True):
            assert cell is not None
            assert code is not None
            assert code["x"] + code["width"] <= cell["x"] + cell["width"]


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "page.html"
    write_page(target, b"whole")
    with pytest.raises(ValueError, match=r"cannot write .*: No such file"):
        write_page(tmp_path / "none" / "page.html", b"")
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]
