"""Shell completion: names from the workspace, quickly and without errors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.curate import app as curate
from distill.cli.main import app as distill
from distill.daemon.opening import open_queue
from distill.daemon.placing import Placing
from distill.run_directory import BUNDLE

APPS = {"distill": distill, "curate": curate}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("work"))
    with open_queue(made) as queue:
        for name, label in (("teacher", "sweep/1"), ("student-a", "sweep/1"), ("student-b", "")):
            queue.submit(name, f"name = '{name}'", 1.0, Placing(label=label))
            (made.runs / name).mkdir(parents=True)
    (made.runs / "by-hand").mkdir()
    (made.runs / "teacher.old-1").mkdir()
    (made.runs / "student-a" / "bundle").mkdir()
    (made.runs / ".removed-x").mkdir()
    (made.bundles / "pulled").mkdir(parents=True)
    for name in ("train.lmdb", "clean.view"):
        (made.datasets / "ms1m" / name).mkdir(parents=True)
    (made.datasets / "ms1m" / "lfw.bin").touch()
    (made.datasets / "ms1m" / "e\x1b[31mvil.bin").touch()
    made.teachers.mkdir()
    (made.teachers / "r100.onnx").touch()
    return made


def asked(line: str, place: Workspace, **environment: str) -> dict[str, str]:
    """The environment in which bash requests completions for the end of the line."""
    words = line.split()
    command = words[0]
    return {
        f"_{command.upper()}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - (not line.endswith(" "))),
        "DISTILL_WORKSPACE": str(place.root),
        **environment,
    }


def offered(line: str, place: Workspace) -> list[str]:
    command = line.split()[0]
    ran = CliRunner().invoke(APPS[command], [], prog_name=command, env=asked(line, place))
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("distill cancel ", "student-a student-b teacher"),
        ("distill cancel teacher stu", "student-a student-b"),
        ("distill watch t", "teacher"),
        ("distill show t", "teacher teacher.old-1"),
        ("distill logs b", "by-hand"),
        ("distill diff teacher te", "teacher teacher.old-1"),
        ("distill submit job.toml --after te", "teacher"),
        ("distill status --label ", "sweep/1"),
        ("distill pull x", ""),
        ("distill pull %", ""),
        ("curate recipe s", "sample"),
        ("curate inspect ms1m/", "ms1m/clean ms1m/lfw ms1m/train"),
        ("curate check ", "ms1m/clean ms1m/train"),
        ("curate check ms1m/train --teacher ", "r100.onnx student-a"),
        ("distill sub", "submit"),
    ],
)
def test_names_of_the_workspace_are_offered(place: Workspace, line: str, names: str) -> None:
    assert offered(line, place) == names.split()


def test_bundles_and_files_are_offered_as_paths(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.root)
    assert offered("distill verify ", place) == ["bundles/pulled", "runs/student-a/bundle"]
    assert offered("curate report x --evaluate d", place) == ["datasets/ms1m/lfw.bin"]
    monkeypatch.chdir("/")
    assert offered("distill verify /", place)[0] == str(place.bundles / "pulled")


def test_the_workspace_on_the_command_line_is_used(place: Workspace, tmp_path: Path) -> None:
    elsewhere = Workspace(tmp_path / "none")
    line = f"distill cancel --workspace {place.root} te"
    assert offered(line, elsewhere) == ["teacher"]
    assert offered("distill cancel te", elsewhere) == []


@pytest.mark.parametrize("damage", ["garbage", "empty", "folder", "pipe", "locked", "foreign"])
def test_an_unreadable_queue_offers_no_names(place: Workspace, tmp_path: Path, damage: str) -> None:
    other = Workspace(tmp_path / "other")
    shutil.copytree(place.root, other.root)
    queue = other.daemon / "queue.sqlite"
    if damage == "locked":
        with open_queue(other) as held, held.exclusive():
            assert offered("distill cancel te", other) == ["teacher"], "WAL: readers do not wait"
        return
    queue.unlink()
    if damage == "folder":
        queue.mkdir()
    elif damage == "pipe":
        os.mkfifo(queue)
    elif damage == "foreign":
        import sqlite3

        sqlite3.connect(queue).execute("CREATE TABLE other (x)").connection.close()
    else:
        queue.write_bytes(b"" if damage == "empty" else b"no database" * 1000)
    assert offered("distill cancel te", other) == []


def test_completion_leaves_no_files(place: Workspace, tmp_path: Path) -> None:
    before = sorted(place.root.rglob("*"))
    offered("distill cancel ", place)
    offered("distill verify ", place)
    assert sorted(place.root.rglob("*")) == before
    offered("distill cancel ", Workspace(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_names_of_a_read_only_workspace_are_offered(place: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    shutil.copytree(place.root, other.root)
    (other.daemon / "queue.sqlite").chmod(0o444)
    other.daemon.chmod(0o555)
    try:
        assert offered("distill cancel te", other) == ["teacher"]
    finally:
        other.daemon.chmod(0o755)


def test_file_names_match_the_run_directory() -> None:
    assert f"*/{BUNDLE}" == completion.BUNDLES


def test_every_job_of_every_command_is_completed() -> None:
    commands = typer.main.get_command(distill).commands.items()
    jobs = [
        (name, each)
        for name, command in commands
        for each in command.params
        if "JOB" in str(each.metavar) and not command.hidden
    ]
    assert len(jobs) > 12
    assert [name for name, each in jobs if each._custom_shell_complete is None] == []


def test_completion_works_in_a_real_bash(place: Workspace) -> None:
    """Uses the script that `distill --install-completion` sets up."""
    here = {**os.environ, "DISTILL_WORKSPACE": str(place.root)}
    here["PATH"] = f"{Path(sys.executable).parent}:{here['PATH']}"
    here["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    asked = here | {"_DISTILL_COMPLETE": "source_bash"}
    script = subprocess.run(["distill"], env=asked, capture_output=True, text=True).stdout
    ask = "COMP_WORDS=(distill cancel stu); COMP_CWORD=2; _distill_completion distill"
    ask += "; echo ${COMPREPLY[@]}"
    ran = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"], env=here, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["student-a", "student-b"]
    assert ran.stderr == ""


def test_no_slow_module_is_imported(place: Workspace) -> None:
    code = (
        "import atexit, sys\n"
        "heavy = ('torch', 'numpy', 'rich', 'fastapi', 'psutil')\n"
        "atexit.register(lambda: print('imported', *[m for m in heavy if m in sys.modules]))\n"
        "sys.argv = ['distill']\n"
        "from distill.cli.main import main\n"
        "main()\n"
    )
    here = {**os.environ, **asked("distill cancel te", place)}
    here["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    ran = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True)
    assert ran.stdout.split() == ["teacher", "imported"]
