"""The content of the report page, read with a parser."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from parsed_page import Node, parse_page
from planted_findings import HOSTILE, all_findings, finding, write_findings

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import decode
from curation.noise.decisions import read_decisions
from curation.noise.findings import Finding, save_finding
from curation.pairs import read_pairs
from curation.records.layout_writer import write_layout
from curation.report.page import write_report
from curation.report.siblings import sibling_findings, sibling_pairs, sibling_views
from curation.store import Store
from curation.subsets import write_cap, write_random_identities, write_split

HOSTILE_NAME = "<b onclick=alert(1)>&.view"


@pytest.fixture(scope="module")
def train(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with views, an evaluation set and findings beside it."""
    folder = tmp_path_factory.mktemp("people")
    store = convert(drawn_folder, folder / "train.lmdb")
    capped = write_cap(folder / "five.view", store, 5)
    write_random_identities(folder / "few.view", capped, 3)
    write_random_identities(folder / HOSTILE_NAME, store, 2)
    (folder / "pairs.bin").write_bytes((drawn_folder / "pairs.bin").read_bytes())
    (folder / "broken.bin").write_bytes(b"no pickle")
    evaluation = {"gone": "0" * 64, "pairs": read_pairs(folder / "pairs.bin").digest}
    write_findings(store, all_findings(store), evaluation)
    return store


@pytest.fixture(scope="module")
def html(train: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(train, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def page(html: str) -> Node:
    return parse_page(html)


def render(train: Store, path: Path, examples: int = 24) -> str:
    """The page with everything beside the store."""
    siblings = (sibling_findings(train), sibling_views(train), sibling_pairs(train))
    write_report(path, train, *siblings, examples)
    return path.read_text()


def case(page: Node, key: str) -> Node:
    return next(node for node in page.all("article") if node["data-key"] == key)


def names(node: Node) -> list[str]:
    return [face.text for face in node.all("span", "index")]


def test_every_flagged_example_has_its_score(page: Node, train: Store) -> None:
    cases = {node["data-key"]: node for node in page.all("article")}
    findings = sibling_findings(train)
    for check in findings.checks:
        found = findings.load(check)
        for subject, score in zip(
            found.subjects[found.flagged], found.scores[found.flagged], strict=True
        ):
            node = cases[f"{check}-{subject}"]
            assert f"{score:.3f} flagged" in node.text
            assert float(node["data-score"]) == pytest.approx(score, abs=1e-6)


def test_cases_below_the_edge_are_shown_and_not_applied(page: Node) -> None:
    node = case(page, "misplaced-40")
    assert "not flagged" in node.text
    assert "Will not leave out image 40" in node.text


def test_all_images_are_embedded_and_decode(page: Node) -> None:
    images = page.all("img")
    assert len(images) > 100
    for image in images:
        head, _, data = image["src"].partition(",")
        assert head == "data:image/jpeg;base64"
        pixels = decode(base64.b64decode(data, validate=True))
        assert pixels.shape[:2] == (int(image["height"]), int(image["width"]))
        assert image["alt"]


def test_the_page_loads_nothing_from_outside(page: Node, html: str) -> None:
    for node in page.walk():
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert re.match(r"data:|#|$", node.attributes.get(name, "")), node
    assert "//" not in re.sub(
        r"data:image/jpeg;base64,[^\"]*|^\s*//.*|; //.*", "", html, flags=re.M
    )
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp", html)
    policy = next(node for node in page.all("meta") if "http-equiv" in node.attributes)["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy


def test_text_from_data_is_escaped(page: Node, html: str) -> None:
    assert HOSTILE not in html
    assert HOSTILE in page.text  # the search text, with its signs escaped
    assert HOSTILE_NAME in page.text
    assert [node for node in page.walk() if "onerror" in node.attributes] == []
    assert len(page.all("script")) == 2


def test_the_same_input_gives_the_same_page(train: Store, html: str, tmp_path: Path) -> None:
    assert render(train, tmp_path / "again.html") == html


def test_the_number_of_examples_is_bounded(train: Store, tmp_path: Path) -> None:
    page = parse_page(render(train, tmp_path / "short.html", examples=2))
    shown = [len(section.all("article")) for section in page.all("section", "check")]
    assert max(shown) == 4  # two worst and two borderline cases


def test_one_identity_does_not_take_all_examples(drawn_store: Store, tmp_path: Path) -> None:
    # By score, all images of identity 0 (0 to 7) come first, then those of identity 1.
    scores = 1 - np.arange(12) / 100
    write_findings(drawn_store, [finding("unusable", "image", scores, 12)])
    page = parse_page(render(drawn_store, tmp_path / "page.html", examples=6))
    worst = page.all("div", "group")[0].all("article")
    subjects = [int(node["data-key"].removeprefix("unusable-")) for node in worst]
    assert subjects == [0, 1, 2, 8, 9, 10]


def test_only_the_first_of_many_parts_are_shown(drawn_store: Store, tmp_path: Path) -> None:
    one = finding("mixed", "identity", [0.9], 1, parts=[8], smaller=[1], between=[0.0])
    one = Finding(**{**vars(one), "images": {"part": np.arange(48) % 8}})
    write_report(tmp_path / "page.html", drawn_store, write_findings(drawn_store, [one]))
    node = case(parse_page((tmp_path / "page.html").read_text()), "mixed-0")
    assert len(node.all("div", "row")) == 6
    assert "2 further parts not shown" in node.text


def test_a_split_identity_is_shown_with_its_merge_target(
    drawn_store: Store, tmp_path: Path
) -> None:
    nearest = {"other_identity": [1], "similarity": [0.9], "into": [2]}
    one = finding("divided", "identity", [0.9], 1, **nearest)
    write_report(tmp_path / "page.html", drawn_store, write_findings(drawn_store, [one]))
    node = case(parse_page((tmp_path / "page.html").read_text()), "divided-0")
    assert "merged into: identity 2" in node.all("div", "row")[2].text


def test_a_misplaced_face_is_shown_with_both_identities(page: Node) -> None:
    # Image 43 belongs to identity 5: 40 to 47, of which 41 to 47 are flagged.
    node = case(page, "misplaced-43")
    (large,) = node.all("figure", "suspect")
    assert large.text == "#43 0.10"
    own, other = node.all("div", "row")
    assert "Its own: identity 5 (label 5, 8 images)" in own.text
    assert names(own) == ["#40", "#41", "#42", "#44", "#45", "#46"]  # the unflagged one first
    assert "Nearest other: identity 0" in other.text
    assert "Similarity 0.10 to its identity's prototype, 0.00 to its nearest three" in node.text


def test_a_misplaced_face_with_no_other_identity_says_so(page: Node) -> None:
    node = case(page, "misplaced-45")
    assert "no other identity was compared" in node.text
    assert len(node.all("div", "row")) == 1


def test_the_parts_of_a_mixed_identity_are_rows(page: Node) -> None:
    stays, leaves = case(page, "mixed-0").all("div", "row")
    assert "Stays: 6 images" in stays.text
    assert "New identity 1: 2 images" in leaves.text
    assert names(leaves) == ["#6", "#7"]
    assert "make a new identity of 2 images of identity 0" in case(page, "mixed-0").text


def test_a_mixed_identity_without_parts_offers_nothing_to_decide(page: Node) -> None:
    node = case(page, "mixed-4")
    assert node.all("button") == []
    assert "Nothing is proposed here" in node.text


def test_the_two_identities_of_a_divided_person_are_rows(page: Node) -> None:
    node = case(page, "divided-0")
    first, second = node.all("div", "row")
    assert "Identity 0" in first.text
    assert "Identity 1" in second.text
    assert "merge identity 0 into identity 1" in node.text


def test_two_similar_identities_are_one_case(drawn_store: Store, tmp_path: Path) -> None:
    nearest = {"other_identity": [1, 0, 3, 2], "similarity": [0.9, 0.9, 0.4, 0.4]}
    divided = finding("divided", "identity", [0.9, 0.9, 0.4, 0.4], 2, **nearest)
    # The table merges 0 into 1; 2 and 3 are not flagged and have no line.
    write_report(tmp_path / "page.html", drawn_store, write_findings(drawn_store, [divided]))
    cases = parse_page((tmp_path / "page.html").read_text()).all("article")
    assert [node["data-key"] for node in cases] == ["divided-0", "divided-2"]
    assert "Will merge identity 0 into identity 1" in cases[0].text
    assert "Will not merge identity 2 into identity 3" in cases[1].text


def test_a_duplicate_is_shown_with_the_image_that_is_kept(page: Node) -> None:
    copy, kept = case(page, "duplicate-0").all("figure", "large")
    assert "suspect" in copy.classes
    assert copy.text.startswith("copy #0")
    assert kept.text.startswith("kept #1")


def test_an_overlap_shows_the_evaluation_image(page: Node, train: Store) -> None:
    node = case(page, "overlap-5")
    (face,) = node.all("figure", "suspect")
    assert face.all("img")[0]["alt"] == "image 5 of pairs"
    shown = decode(base64.b64decode(face.all("img")[0]["src"].partition(",")[2]))
    original = decode(read_pairs(train.path.with_name("pairs.bin")).images[5])
    assert np.abs(shown.astype(int) - original).mean() < 8


def test_an_overlap_with_a_removed_set_names_the_image(page: Node) -> None:
    node = case(page, "overlap-3")
    assert "Similarity 0.60 to image 3 of gone." in node.text
    assert node.all("figure", "suspect") == []


def test_an_identity_far_from_evaluation_images_says_so(page: Node) -> None:
    assert "No evaluation image was similar." in case(page, "overlap-0").text


def test_cases_settled_by_another_check_have_no_decision(page: Node) -> None:
    node = case(page, "unusable-1")
    assert "Will leave out image 1: decided under duplicate" in node.text
    assert node.all("button") == []


def test_the_decisions_in_the_page_are_lines_of_the_table(
    page: Node, train: Store, tmp_path: Path
) -> None:
    (script,) = [node for node in page.all("script") if node.attributes.get("id") == "decisions"]
    content = json.loads(script.content[0])
    lines = content["head"] + [line for given in content["lines"].values() for line in given]
    (tmp_path / "all.tsv").write_text("\n".join(lines) + "\n")
    read = read_decisions(tmp_path / "all.tsv", train.digest)
    table = read_decisions(train.path.with_name("train.findings") / "decisions.tsv", train.digest)
    assert {line for line in read if line.apply} == set(table)
    split = [line for line in read if line.action == "split"]
    assert [(line.image, line.into) for line in split] == [(6, 1), (7, 1), (14, 1), (15, 1)]


def test_the_funnel_shows_numbers_and_shares_of_each_step(page: Node) -> None:
    (table,) = page.all("table", "funnel")
    rows = [row.text.replace("\xa0", " ") for row in table.all("tbody")[0].all("tr")]
    assert [row.split()[0] for row in rows] == [
        *("store", "random", "cap", "random"),
    ]
    assert "train.lmdb 48 images 100 % 6 identities 100 %" in rows[0]
    assert (
        "maximum 5, seed 0 five.view 30 images 62.5 % \N{MINUS SIGN}18 6 identities 100 %"
        in rows[2]
    )
    assert "few.view 15 images 31.2 % \N{MINUS SIGN}15 3 identities 50.0 %" in rows[3]


def test_bars_stay_aligned_if_identities_increase(store: Store, tmp_path: Path) -> None:
    halves = write_split(tmp_path / "halves.view", store, np.arange(len(store)) % 2, {})
    write_report(tmp_path / "page.html", store, views=[halves])
    page = parse_page((tmp_path / "page.html").read_text())
    rows = page.all("table", "funnel")[0].all("tbody")[0].all("tr")
    assert "9 identities 180.0 % +4" in rows[1].text
    bars = [bar.all("span")[0]["style"] for row in rows for bar in row.all("span", "bar")]
    assert bars == ["width:100.00%", "width:55.56%", "width:100.00%", "width:100.00%"]


def test_each_set_has_a_histogram_with_the_same_bins(page: Node) -> None:
    charts = [node for node in page.all("figure", "chart") if "scores" not in node.classes]
    assert [chart.text.split()[0] for chart in charts] == [
        *("train.lmdb", "<b", "five.view", "few.view"),
    ]
    assert {len(chart.all("li")) for chart in charts} == {4}
    assert "6 identities with 6 to 10 images: 100 % of identities" in charts[0].text


def test_without_findings_the_page_has_funnel_and_histograms(
    drawn_store: Store, tmp_path: Path
) -> None:
    report = write_report(tmp_path / "page.html", drawn_store)
    page = parse_page((tmp_path / "page.html").read_text())
    assert (report.checks, report.cases) == (0, 0)
    assert len(page.all("table", "funnel")) == 1
    assert "curate check" in page.text
    assert page.all("article") == []


def test_an_image_that_cannot_be_decoded_is_shown_as_such(
    tmp_path: Path, drawn_store: Store
) -> None:
    whole = [drawn_store.read(i) for i in range(4)]
    torn = [*whole[:3], whole[3][: len(whole[3]) // 3][:400]]
    write_layout(tmp_path / "torn", [(data, 0) for data in torn], (48, 48))
    store = convert(tmp_path / "torn", tmp_path / "train.lmdb")
    columns = {"norm": np.ones(4), "similarity": np.zeros(4)}
    write_findings(store, [finding("unusable", "image", [0, 0, 0, 1], 1, **columns)])
    page = parse_page(render(store, tmp_path / "page.html"))
    assert "cannot be decoded" in case(page, "unusable-3").text


def test_a_check_without_a_file_is_still_shown(drawn_store: Store, tmp_path: Path) -> None:
    store = Store(drawn_store.path)
    strange = [finding("tilted", "image", [0.9, 0.1], 1), finding("old", "identity", [0.8], 1)]
    findings = write_findings(store, strange)
    write_report(tmp_path / "page.html", store, findings)
    page = parse_page((tmp_path / "page.html").read_text())
    assert "Tilted images" in page.text
    assert "Will not leave out image 0" in case(page, "tilted-0").text
    assert case(page, "old-0").all("button") == []


def test_findings_of_another_set_are_refused_in_one_line(store: Store, tmp_path: Path) -> None:
    findings = write_findings(store, [finding("duplicate", "image", [1.0], 1, of=[1])])
    save_finding(findings.path, finding("duplicate", "image", [1.0], 1, of=[16]))
    with pytest.raises(UserError, match=r"duplicate\.npz .*damaged: evidence\.of has 16 to 16"):
        write_report(tmp_path / "page.html", store, findings)
    assert not (tmp_path / "page.html").exists()


def test_a_check_with_the_wrong_subject_is_one_line(drawn_store: Store, tmp_path: Path) -> None:
    store = Store(drawn_store.path)
    images = finding("divided", "image", np.linspace(0, 1, 48), 20, other_identity=[0] * 48)
    with pytest.raises(UserError, match="divided is about each identity, not each image"):
        write_report(tmp_path / "page.html", store, write_findings(store, [images]))


def test_an_identity_without_a_comparison_is_shown(drawn_store: Store, tmp_path: Path) -> None:
    store = Store(drawn_store.path)
    divided = finding(
        "divided", "identity", [0.9, 0.1], 1, other_identity=[1, -1], similarity=[0.8, -1]
    )
    write_report(tmp_path / "page.html", store, write_findings(store, [divided]))
    page = parse_page((tmp_path / "page.html").read_text())
    assert "No other identity was compared." in case(page, "divided-1").text


def test_bidirectional_and_non_utf8_names_are_shown_safely(
    drawn_folder: Path, tmp_path: Path
) -> None:
    store = convert(drawn_folder, tmp_path / "train.lmdb")
    write_cap(tmp_path / "a\u202egpj\x1b[31m.view", store, 5)
    write_cap(tmp_path / os.fsdecode(b"of\xff.view"), store, 4)
    write_report(tmp_path / "page.html", store, views=sibling_views(store))
    html = (tmp_path / "page.html").read_text()
    assert r"of\udcff.view" in html
    assert r"a\u202egpj\x1b[31m.view" in html
    assert not set("\u202e\x1b") & set(html)


def test_cyclic_links_next_to_a_store_are_ignored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.view").symlink_to(tmp_path / "b.view")
    (tmp_path / "b.view").symlink_to(tmp_path / "a.view")
    assert sibling_views(store) == []


def test_findings_of_other_images_are_refused(
    write_source: Callable[..., Path], tmp_path: Path
) -> None:
    store = convert(write_source({1: 3}), tmp_path / "train.lmdb")
    other = convert(write_source({1: 4}, "other"), tmp_path / "elsewhere" / "train.lmdb")
    write_findings(other, [])
    (tmp_path / "elsewhere" / "train.findings").rename(tmp_path / "train.findings")
    with pytest.raises(UserError, match=r"about other images .* run `curate check` again"):
        sibling_findings(store)


def test_an_unwritable_page_is_one_line(drawn_store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*page\.html: No such file"):
        write_report(tmp_path / "nowhere" / "page.html", drawn_store)


def curate(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "distill.cli.curate", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_writes_the_page_next_to_the_set(train: Store) -> None:
    outcome = curate("report", str(train.path), "--json")
    assert outcome.returncode == 0, outcome.stderr
    path = train.path.with_name("train.report.html")
    made = json.loads(outcome.stdout)
    assert made["path"] == str(path)
    assert made["bytes"] == path.stat().st_size
    assert made["checks"] == 6


def test_the_command_takes_views_evaluation_sets_and_a_place(train: Store, tmp_path: Path) -> None:
    five, pairs = train.path.with_name("five.view"), train.path.with_name("pairs.bin")
    options = ("--view", str(five), "--evaluate", str(pairs), "--examples", "1")
    outcome = curate("report", str(train.path), "--to", str(tmp_path / "a.html"), *options)
    assert outcome.returncode == 0, outcome.stderr
    page = parse_page((tmp_path / "a.html").read_text())
    assert len(page.all("table", "funnel")[0].all("tr")) == 3
    assert page.all("article")


def test_an_invalid_evaluation_set_is_one_line(train: Store, tmp_path: Path) -> None:
    broken = train.path.with_name("broken.bin")
    place = ("--to", str(tmp_path / "a.html"))
    outcome = curate("report", str(train.path), *place, "--evaluate", str(broken))
    assert outcome.returncode == 1
    assert re.fullmatch(r"error: .*broken\.bin .*verification set.*\n", outcome.stderr)
    assert not (tmp_path / "a.html").exists()
