"""``curate review`` without its page: the progress of a review, and imported decisions."""

import json
import shutil
from pathlib import Path

import pytest
from planted_findings import all_findings, write_findings
from typer.testing import CliRunner

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE
from distill.cli.curate import app


@pytest.fixture(scope="module")
def people(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    store = convert(drawn_folder, folder / "train.lmdb")
    write_findings(store, all_findings(store), {})
    return folder


@pytest.fixture
def store(people: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(people, tmp_path / "people")) / "train.lmdb"


def review(store: Path, *options: object) -> str:
    arguments = ["review", str(store), *map(str, options)]
    ran = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"}, catch_exceptions=False)
    assert ran.exit_code == 0
    return ran.stdout


def shown(output: str) -> dict[str, str]:
    pairs = (line.split("  ", 1) for line in output.splitlines())
    return {name: value.strip() for name, value in pairs}


def test_the_progress_says_who_decided_what_and_what_is_open(store: Path) -> None:
    progress = json.loads(review(store, "--status", "--json"))
    before = shown(review(store, "--status"))
    assert before["cases"] == str(progress["cases"])
    assert before["by"] == "-"
    assert before["open"].startswith(f"{progress['open']} (")
    assert "calibration" not in before
    table = store.with_suffix(".findings") / DECISIONS_FILE
    read = shown(review(store, "--read", table, "--who", "ada"))
    assert int(read["new decisions"]) > 0
    assert shown(review(store, "--status"))["by"] == f"{read['new decisions']} ada"
    again = shown(review(store, "--read", table, "--who", "ada"))
    assert (again["new decisions"], again["already decided so"]) == ("0", read["new decisions"])


def test_json_of_several_tables_is_one_document(store: Path) -> None:
    table = store.with_suffix(".findings") / DECISIONS_FILE
    one = json.loads(review(store, "--read", table, "--json"))
    assert one["decided"] > 0
    two = json.loads(review(store, "--read", table, "--read", table, "--json"))
    assert [each["path"] for each in two] == [str(table), str(table)]
    assert [each["known"] for each in two] == [one["decided"]] * 2


def test_a_missing_file_is_not_an_empty_review(store: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.jsonl: cannot read it: No such file"):
        review(store, "--read", store.with_name("gone.jsonl"))
