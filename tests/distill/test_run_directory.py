"""The files of a run folder are read as untrusted input."""

import json

import pytest

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.job_log import LONGEST_END, print_log
from distill.run_directory import EVALUATION, LOG, STEPS, WARNINGS, read_warnings, steps_now
from tests.distill.daemon.harness import make_odd


@pytest.mark.parametrize("name", [STEPS, WARNINGS, EVALUATION])
@pytest.mark.parametrize("content", [b"", b'{"sets": {"lf', b"3"], ids=["empty", "cut", "number"])
def test_a_record_that_cannot_be_read_is_a_warning(tmp_path, name, content):
    assert read_warnings(tmp_path) == []
    (tmp_path / name).write_bytes(content)
    (warning,) = read_warnings(tmp_path)
    assert warning["text"].startswith(f"{name} cannot be read and is not shown: ")


@pytest.mark.parametrize(("is_running", "state"), [(True, "running"), (False, "stopped")])
def test_no_step_runs_in_a_job_that_does_not(tmp_path, is_running, state):
    steps = [{"name": "teach", "state": "done"}, {"name": "embed", "state": "running"}]
    (tmp_path / STEPS).write_text(json.dumps(steps))
    assert [step["state"] for step in steps_now(tmp_path, is_running)] == ["done", state]


def test_long_notes_and_warnings_are_shortened(tmp_path):
    (tmp_path / STEPS).write_text(json.dumps([{"name": "a", "state": "done", "note": "n" * 5000}]))
    (tmp_path / WARNINGS).write_text(json.dumps([{"text": "t" * 5000}]))
    (step,), (warning,) = steps_now(tmp_path, False), read_warnings(tmp_path)
    assert step["note"] == "n" * 2000 + " ... (3,000 more characters)"
    assert warning["text"] == "t" * 2000 + " ... (3,000 more characters)"


def test_of_endless_lines_only_their_ends_are_the_last_ones(tmp_path, capsys):
    run = tmp_path / "runs" / "endless"
    run.mkdir(parents=True)
    lines = [b"first", b"x" * 3_000_000 + b"\r99 %", b"short", b"y" * 3_000_000]
    (run / LOG).write_bytes(b"\n".join(lines))
    print_log(Workspace(tmp_path), "endless", 3)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("(2,991,814 bytes before this) ... xxx")
    assert shown[1:3] == ["99 %", "short"]
    assert shown[3] == "(2,991,808 bytes before this) ... " + "y" * LONGEST_END
    print_log(Workspace(tmp_path), "endless", None)
    assert capsys.readouterr().out.count("y") == 3_000_000


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["begun", "ended"])
@pytest.mark.parametrize("lines", [0, 1, 2, 7, 100_000])
def test_the_last_lines_are_those_at_the_end(tmp_path, capsys, lines, end):
    run = tmp_path / "runs" / "long"
    run.mkdir(parents=True)
    every = [f"line {number}" for number in range(99_999)]
    (run / LOG).write_bytes("\n".join(every).encode() + end)
    assert print_log(Workspace(tmp_path), "long", lines) == (run / LOG).stat().st_size
    assert capsys.readouterr().out.splitlines() == every[max(0, len(every) - lines) :]


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere", "zero"])
def test_a_log_that_is_not_a_file_is_an_error(tmp_path, kind):
    run = tmp_path / "runs" / "odd"
    run.mkdir(parents=True)
    make_odd(run / LOG, kind)
    with pytest.raises(UserError, match=r"log.txt: it is a (directory|named pipe|link), not a"):
        print_log(Workspace(tmp_path), "odd", 5)
