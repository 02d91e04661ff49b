"""`distill submit` of real specs, as a user gives it."""

import json
import tomllib
from pathlib import Path

import pytest
from small_job import job_text, make_workspace, stage_text
from test_daemon_commands import Ran

from curation.workspace import Workspace
from distill.daemon import client


@pytest.fixture
def workspace(tmp_path: Path, drawn_store, drawn_folder) -> Workspace:
    return make_workspace(tmp_path / "workspace", drawn_store, drawn_folder)


def write_spec(folder: Path, name: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text("# a comment\n" + job_text(name, stage_text()))
    return str(path)


def frozen(workspace: Workspace, name: str) -> dict:
    return tomllib.loads((workspace.runs / name / "spec.toml").read_text())


def test_what_is_set_is_queued_and_frozen(workspace: Workspace, tmp_path: Path) -> None:
    path = write_spec(tmp_path, "a")
    settings = ("--set", "train.seed=3", "--set", "stage[0].epochs=2", "--set", "name=b")
    assert Ran(workspace, "submit", path, *settings).stdout == "b: queued\n"
    assert frozen(workspace, "b")["train"]["seed"] == 3
    assert frozen(workspace, "b")["stage"][0]["epochs"] == 2
    assert client.job_named(workspace, "a") is None
    assert Ran(workspace, "submit", path, *settings).stdout == "b: already queued\n"
    assert "exists with another spec" in Ran(workspace, "submit", path, "--set", "name=b").error
    Ran(workspace, "submit", path)
    told = json.loads(Ran(workspace, "diff", "a", "b", "--json").stdout)["differences"]
    assert [line["key"] for line in told] == ["stage[0].epochs", "train.seed"]


@pytest.mark.parametrize("command", ["submit", "check", "run"])
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.seed=-1", "--set train.seed=-1: train.seed: -1 is below 0"),
        ("student.backbone=no", "--set student.backbone=no: student.backbone: backbone 'no'"),
        ("data.train=no/such", "--set data.train=no/such: data.train: data set 'no/such'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    workspace: Workspace, tmp_path: Path, command: str, setting: str, words: str
) -> None:
    path = write_spec(tmp_path, "a")
    assert words in Ran(workspace, command, path, "--set", setting).error
    assert not workspace.runs.exists()
