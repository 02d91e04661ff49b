"""The files of a run folder are read as untrusted input."""

import json

import pytest

from curation.workspace import Workspace
from distill.cli.job_log import LONGEST_END, print_log
from distill.run_directory import EVALUATION, LOG, STEPS, WARNINGS, read_warnings, steps_now


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
