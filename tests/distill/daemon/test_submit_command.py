"""`distill submit` of real specs, as a user runs it."""

import json
import tomllib
from pathlib import Path

import pytest
from small_job import job_text, stage_text, teacher_text
from test_daemon_commands import Ran

from curation.workspace import Workspace
from distill.cli.following import follow_to_end
from distill.daemon import client
from distill.daemon.runfolder import freeze_spec
from tests.distill.daemon.harness import Harness


def write_spec(folder: Path, name: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text("# a comment\n" + job_text(name, stage_text()))
    return str(path)


def frozen(workspace: Workspace, name: str) -> dict:
    return tomllib.loads((workspace.runs / name / "spec.toml").read_text())


def test_overrides_are_queued_and_frozen(workspace: Workspace, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("augment.views", "4", "augment.views was not set and is 4"),
        ("student.width", "0.25", "student.width was 0.125 and is 0.25"),
        ("teacher.answers", "int8", 'teacher.answers was not set and is "int8"'),
        ("train.batch_size", "16", "train.batch_size was 12 and is 16"),
        ("stage[0].epochs", "2", "stage[0].epochs was 1 and is 2"),
    ],
    ids=["augment", "student", "teacher", "train", "stage"],
)
def test_another_spec_is_refused_with_what_differs(
    workspace: Workspace, tmp_path: Path, key: str, value: str, words: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(job_text("a", teacher_text(), stage_text()))
    freeze_spec(workspace.runs / "a", path.read_text())
    told = Ran(workspace, "run", str(path), "--set", f"{key}={value}").error
    assert f"a.toml: job 'a' exists with another spec: {words}; undo" in told


def test_a_submit_of_another_spec_is_told_what_differs(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = write_spec(tmp_path, "a")
    Ran(workspace, "submit", path)
    told = Ran(workspace, "submit", path, "--set", "augment.views=4", "--set", "train.seed=2").error
    assert "train.seed was not set and is 2, augment.views was not set and is 4; undo" in told


@pytest.mark.parametrize("known", ["queued", "run by hand"])
def test_comments_and_layout_do_not_make_another_spec(
    workspace: Workspace, tmp_path: Path, known: str
) -> None:
    path = write_spec(tmp_path, "a")
    text = Path(path).read_text()
    if known == "queued":
        Ran(workspace, "submit", path)
    else:
        freeze_spec(workspace.runs / "a", text)
    Path(path).write_text(f"# tried on Monday\n{text}\n".replace("=", " =  "))
    ran = Ran(workspace, "submit", path)
    assert ran.stdout == ("a: already queued\n" if known == "queued" else "a: queued\n")
    job = client.job_named(workspace, "a")
    assert job is not None
    assert job.spec == text


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


def test_several_are_queued_in_their_order(workspace: Workspace, tmp_path: Path) -> None:
    paths = [write_spec(tmp_path, name) for name in ("b", "a", "c")]
    ran = Ran(workspace, "submit", *paths, "--label", "sweep", "--set", "train.seed=3")
    assert [line.split() for line in ran.stdout.splitlines()[2:]] == [
        ["b", "queued"], ["a", "queued"], ["c", "queued"],
    ]  # fmt: skip
    assert client.names(workspace) == ["b", "a", "c"]
    assert {job.label for job in client.jobs(workspace)} == {"sweep"}
    assert frozen(workspace, "c")["train"]["seed"] == 3
    told = json.loads(Ran(workspace, "submit", *paths, "--set", "train.seed=3", "--json").stdout)
    assert [(each["job"]["name"], each["answer"]) for each in told] == [
        ("b", "already queued"), ("a", "already queued"), ("c", "already queued"),
    ]  # fmt: skip


def test_if_one_spec_is_refused_none_is_queued(workspace: Workspace, tmp_path: Path) -> None:
    good, bad, worse = (write_spec(tmp_path, name) for name in ("good", "bad", "worse"))
    for path, old, new in ((bad, "epochs", "epoch"), (worse, '"mobilefacenet"', "3")):
        Path(path).write_text(Path(path).read_text().replace(old, new))
    ran = Ran(workspace, "submit", good, bad, worse)
    assert ran.status == 1
    assert f"{bad}:7:1: stage 1: unknown key 'epoch'" in ran.stderr
    assert f"{worse}:4:24: student.backbone: " in ran.stderr
    assert "none of the 3 jobs is queued" in ran.stderr
    assert not workspace.daemon.exists()


def test_two_faults_of_fit_are_both_reported(workspace: Workspace, tmp_path: Path) -> None:
    paths = [write_spec(tmp_path, name) for name in ("a", "b")]
    ran = Ran(workspace, "submit", *paths, "--set", "data.evaluate=['none']")
    assert ran.stderr.count("--set data.evaluate=['none']: data.evaluate 1: ") == 2
    assert client.names(workspace) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "name=x"), "--set name=x: several specs cannot have the same name"),
        (("a.toml",), "a.toml is given twice: both are the job 'a'"),
    ],
)
def test_several_jobs_need_several_names(
    workspace: Workspace, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    given = [write_spec(tmp_path, name) for name in ("a", "b")]
    more = [str(tmp_path / each) if each.endswith(".toml") else each for each in options]
    assert words in Ran(workspace, "submit", *given, *more).stderr


def test_a_conflict_of_one_keeps_the_others_out(workspace: Workspace, tmp_path: Path) -> None:
    a, b = (write_spec(tmp_path, name) for name in ("a", "b"))
    Ran(workspace, "submit", a)
    ran = Ran(workspace, "submit", b, a, "--set", "train.seed=9")
    assert "job 'a' exists with another spec" in ran.stderr
    assert client.names(workspace) == ["a"]


def write_pupil(folder: Path, name: str, teacher: str) -> str:
    path = folder / f"{name}.toml"
    losses = stage_text("angular = {}")
    path.write_text(job_text(name, f"[teacher]\nfrom = '{teacher}'", losses))
    return str(path)


def test_a_pupil_may_come_before_its_teacher(workspace: Workspace, tmp_path: Path) -> None:
    pupil, teacher = write_pupil(tmp_path, "pupil", "master"), write_spec(tmp_path, "master")
    ran = Ran(workspace, "submit", pupil, teacher)
    assert ran.status == 0, ran.stderr
    assert [line.split() for line in ran.stdout.splitlines()[2:]] == [
        ["pupil", "queued", "master"], ["master", "queued"],
    ]  # fmt: skip


def test_those_who_would_teach_each_other_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    paths = [write_pupil(tmp_path, one, other) for one, other in ("ab", "ba")]
    assert "the teachers form a circle" in Ran(workspace, "submit", *paths).stderr
    assert client.names(workspace) == []


def test_several_are_followed_until_all_have_ended(harness: Harness, capsys) -> None:
    for name, code in (("bad", "raise SystemExit(3)"), ("good", "pass")):
        harness.submit(name, code)
    harness.start()
    with pytest.raises(SystemExit) as ended:
        follow_to_end(harness.workspace, ["bad", "good"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "bad: failed" in said
    assert "good: done" in said
    follow_to_end(harness.workspace, ["good"])
