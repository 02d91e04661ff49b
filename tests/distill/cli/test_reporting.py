"""`distill report`: one page about networks, from the command line and in a browser."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from curation.store import Store
from distill.cli.main import app
from tests.curation.parsed_page import parse_page
from tests.distill.cli.twelve_people import twelve_people
from tests.distill.evaluation.small_protocols import write_tinyface

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """12 people with 8 images each, in a workspace with the embeddings of three "networks"."""
    generator = np.random.default_rng(0)
    store = twelve_people(tmp_path_factory.mktemp("people"), generator)
    place = store.path.parents[2]
    faces = generator.normal(size=(12, 16))[store.labels]
    for name, noise in (("good", 0.3), ("poor", 2.0), ("odd <i>name \N{SNOWMAN}", 0.5)):
        (place / name).mkdir()
        vectors = faces + noise * generator.normal(size=faces.shape)
        np.save(place / name / "train.npy", vectors.astype(np.float32))
    (place / "silent").mkdir()
    np.save(place / "silent" / "another.npy", np.zeros((1, 16), np.float32))
    return store


@pytest.fixture
def place(people: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The workspace, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return people.path.parent.parent.parent


def run(place: Path, *words: str, status: int = 0) -> str:
    command = ["report", *words, "--workspace", str(place)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == status, done.output + str(done.exception)
    return str(done.exception) if status else done.stdout


def test_a_set_with_too_many_pairs_is_refused_first(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distill.evaluation.report.measured.MOST_REPORTED", 90)
    refused = run(place, str(place / "good"), "--on", "drawn/train", status=1)
    assert "train: 96 images make 4,560 pairs" in refused
    assert "`curate view random SET VIEW --fraction 0.84` draws them" in refused
    assert not list(Path().glob("*.html"))


def test_one_command_writes_one_page(place: Path):
    told = run(place, str(place / "good"), str(place / "poor"), "--on", "drawn/train")
    assert told.startswith("good.report.html: 2 networks on 1 set, ")
    page = Path("good.report.html").read_text()
    assert parse_page(page).all("h1")[0].text == "good and 1 other network on train"
    assert page.count("<img ") == 2 * 2 * 2 * 24
    assert list(Path().iterdir()) == [Path("good.report.html")]


def test_the_page_can_be_anywhere_with_fewer_faces(place: Path):
    good = str(place / "good")
    run(place, good, "--on", "drawn/train", "--to", "page.html", "--faces", "3")
    assert Path("page.html").read_text().count("<img ") == 2 * 2 * 3
    run(place, good, "--on", "drawn/train", "--to", "page.html", "--faces", "0")
    assert "<img" not in Path("page.html").read_text()


def test_json_has_all_figures_curves_and_differences(place: Path):
    models = [str(place / name) for name in ("good", "poor")]
    told = json.loads(run(place, *models, "--on", "drawn/train", "--json"))
    assert told["path"] == "good.report.html"
    assert told["bytes"] == Path(told["path"]).stat().st_size
    assert [each["name"] for each in told["models"]] == ["good", "poor"]
    train = told["sets"]["train"]
    good, poor = (train["models"][name] for name in ("good", "poor"))
    assert good["auc"] > poor["auc"]
    assert good["auc_interval"][0] <= good["auc"] <= good["auc_interval"][1]
    assert good["curve"][0]["far"] == good["curve"][0]["tar"] == 1
    assert round(good["curve"][-1]["far"] * good["impostors"]) >= 10
    (difference,) = train["differences"]["poor"]
    assert difference["measure"] == "TAR at FAR 1e-2"
    assert difference["more_than_noise"]


def test_charts_are_written_as_files_on_request(place: Path):
    good = str(place / "good")
    told = json.loads(run(place, good, "--on", "drawn/train", "--pictures", "new/png", "--json"))
    names = sorted(Path(each).name for each in told["pictures"])
    assert names == ["train-DET.png", "train-ROC.png", "train-scores-of-good.png"]
    assert all(Path(each).read_bytes().startswith(b"\x89PNG") for each in told["pictures"])


def test_groups_are_shown_on_request(place: Path):
    Path("groups.csv").write_text(
        "identity,camera\n" + "".join(f"{n},{'<b>' if n % 2 else 'door'}\n" for n in range(12))
    )
    words = [str(place / "good"), "--on", "drawn/train", "--slices", "groups.csv"]
    told = json.loads(run(place, *words, "--faces", "0", "--json"))
    slices = told["sets"]["train"]["models"]["good"]["slices"]
    assert set(slices) == {"camera", "quality"}
    page = parse_page(Path("good.report.html").read_text())
    assert any(each.text.startswith("By camera") for each in page.all("h3"))
    rows = [each.text for each in page.all("tr")]
    assert any(row.startswith("<b> TAR ") for row in rows)
    assert any(row.startswith(("door and <b> ", "<b> and door ")) for row in rows)
    assert sum("worst group" in row for row in rows) == 2
    folded = [each.text for each in page.all("details")]
    assert any("Pairs across two groups of camera" in text for text in folded)


def test_protocols_are_sets_of_a_report_too(place: Path, tmp_path: Path):
    write_tinyface(tmp_path / "tiny")
    tiny, vectors = f"tinyface:{tmp_path / 'tiny'}", np.random.default_rng(0).normal(size=(44, 16))
    np.save(place / "good" / "tinyface.npy", vectors.astype(np.float32))
    told = run(place, str(place / "good"), "--on", "drawn/train", "--on", tiny, "--json")
    report = json.loads(told)["sets"]["tinyface"]["models"]["good"]
    assert report["closed_set"]["probes"] == 8
    content = parse_page(Path("good.report.html").read_text())
    assert "tinyface" in {each.text for each in content.all("h2")}


def test_an_unwritable_page_is_refused_before_embedding(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    words = [str(place / "good"), "--on", "drawn/train"]
    assert "is a folder; name a file" in run(place, *words, "--to", str(tmp_path), status=1)
    assert "cannot write to" in run(place, *words, "--pictures", str(tmp_path / "file"), status=1)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert "it is read-only" in run(place, *words, "--to", str(tmp_path / "page.html"), status=1)
    assert not list(tmp_path.glob("*.html"))


def test_odd_names_are_escaped_in_the_page(place: Path):
    odd = str(place / "odd <i>name \N{SNOWMAN}")
    run(place, odd, "--on", "drawn/train", "--to", "page.html", "--pictures", "png")
    assert "odd <i>name \N{SNOWMAN}" in parse_page(Path("page.html").read_text()).text
    pictures = [path.as_posix() for path in Path().rglob("*.png")]
    assert len(pictures) == 3
    assert {name.rpartition("/")[0] for name in pictures} == {"png"}


def test_a_model_without_embeddings_of_a_set_is_named(place: Path):
    models = [str(place / name) for name in ("silent", "good")]
    told = json.loads(run(place, *models, "--on", "drawn/train", "--json", "--to", "page.html"))
    assert "no embeddings of train" in told["sets"]["train"]["missing"]["silent"]
    assert list(told["sets"]["train"]["models"]) == ["good"]
    assert "not measured" in Path("page.html").read_text()


def test_an_empty_page_is_not_written(place: Path):
    assert "no embeddings of train" in run(
        place, str(place / "silent"), "--on", "drawn/train", status=1
    )
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--to", "none/page.html"], "none: no such folder; make it first"),
        (["--pictures", "/dev/null/png"], "cannot write to /dev/null/png: Not a directory"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(place: Path, words: list[str], expected: str):
    assert expected in run(place, str(place / "good"), "--on", "drawn/train", *words, status=1)


def test_sets_of_one_name_are_refused(place: Path):
    again = str(place / "datasets" / "drawn" / "train.lmdb")
    told = run(place, str(place / "good"), "--on", "drawn/train", "--on", again, status=1)
    assert "two have the same name" in told


def test_more_models_than_fit_are_refused(place: Path):
    models = [str(place / f"model-{number}") for number in range(21)]
    assert "21 models: at most 20" in run(place, *models, "--on", "drawn/train", status=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line_and_leaves_the_old_page(place: Path):
    good = [str(place / "good"), "--on", "drawn/train"]
    run(place, *good, "--to", "page.html")
    before = Path("page.html").read_bytes()
    limited = "import resource, sys; from distill.cli.main import main; "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); main()"
    done = subprocess.run(
        [sys.executable, "-c", limited, "report", *good, "--to", "page.html",
         "--workspace", str(place)],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot write page.html: File too large" in done.stderr
    assert Path("page.html").read_bytes() == before
    assert list(Path().iterdir()) == [Path("page.html")]


def test_the_page_fits_a_phone_and_a_desktop_in_both_themes(place: Path, chromium: "Browser"):
    models = [str(place / name) for name in ("good", "poor", "odd <i>name \N{SNOWMAN}")]
    run(place, *models, "--on", "drawn/train", "--to", "page.html")
    papers, complaints = set(), []
    for width in (1440, 390):
        for theme in ("light", "dark"):
            page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            page.on("console", lambda said: complaints.append(said.text))
            page.on("pageerror", lambda error: complaints.append(error.message))
            page.goto(Path("page.html").resolve().as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            papers.add(page.evaluate("getComputedStyle(document.body.parentNode).background"))
            keys = page.evaluate(
                "[...document.querySelectorAll('.key')].map((each) => each.clientWidth)"
            )
            assert keys == [26] * len(keys)
            drawn = page.evaluate(
                "getComputedStyle(document.querySelector('.chart .curve')).stroke"
            )
            assert drawn.startswith("rgb(")
            page.close()
    assert len(papers) == 2
    assert complaints == []
