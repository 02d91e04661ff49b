"""The files of a run folder are read as untrusted input."""

import json

import pytest

from distill.run_directory import EVALUATION, STEPS, WARNINGS, read_warnings, steps_now


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
