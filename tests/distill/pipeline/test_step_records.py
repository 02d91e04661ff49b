"""Records that steps leave for the job, as other processes may have written them."""

import json
import os

import pytest

from curation.errors import UserError
from distill.notices import Notice, keeping, read_notices
from distill.pipeline.record import write_failure
from distill.pipeline.steps import RESULT, StepBusy, StepStore
from distill.training.checkpoints import newest_checkpoint, save_checkpoint, scores_of


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_anything_but_a_file_is_an_error_and_not_waited_for(tmp_path, make):
    step = tmp_path / "distil-x"
    step.mkdir()
    for name in (RESULT, "warnings.json"):
        make(step / name)
    assert read_notices(step / "warnings.json") == []
    store = StepStore(tmp_path)
    store.folder = lambda kind, inputs: step
    with pytest.raises(UserError, match=r"result\.json: .*; remove .*distil-x and run again"):
        store.perform("distil", {}, lambda folder: {})


def test_results_and_notices_of_steps_can_always_be_read_again(tmp_path):
    store = StepStore(tmp_path)
    result = {"loss": float("inf"), "file": "\ud800", "pair": (1, 2)}
    store.perform("distil", {"a": 1}, lambda folder: result)
    again = store.perform("distil", {"a": 1}, lambda folder: {})
    assert again.reused
    assert again.result == {"loss": None, "file": r"\ud800", "pair": [1, 2]}
    keeping(tmp_path / "notices", lambda notice: None)(Notice("key", "\udcff"))
    assert read_notices(tmp_path / "notices") == [Notice("key", r"\udcff")]


def test_a_failure_that_names_a_file_of_any_name_can_be_read(tmp_path):
    write_failure(tmp_path, UserError(os.fsdecode(b"\xff.jpg cannot be decoded")))
    assert json.loads((tmp_path / "failure.json").read_text())["reason"].startswith(r"\udcff.jpg")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", "{}"),
        ("manifest.json", "[]"),
        ("manifest.json", '{"training.pt": 3}'),
        ("manifest.json", '{"training.pt": NaN}'),
        ("scores.json", '{"score": NaN}'),
        ("scores.json", '{"lfw": 0.5}'),
        ("scores.json", '{"score": "0.5"}'),
    ],
)
def test_a_checkpoint_whose_records_make_no_sense_is_set_aside(tmp_path, name, content):
    for step in (1, 2):
        save_checkpoint(
            tmp_path, step, lambda folder: (folder / "training.pt").touch(), 2, {"score": 0.5}
        )
    (tmp_path / "step-00000002" / name).write_text(content)
    (tmp_path / "step-²x").mkdir()
    assert name != "scores.json" or scores_of(tmp_path / "step-00000002") == {}
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000001"


def test_a_step_of_another_process_is_reported_with_its_job(tmp_path):
    def work(folder):
        with pytest.raises(StepBusy) as busy:
            StepStore(tmp_path, "second").perform("distil", {}, lambda inside: {})
        assert (busy.value.step, busy.value.job) == (folder, "first")
        return {"done": True}

    assert StepStore(tmp_path, "first").perform("distil", {}, work).result == {"done": True}
    assert StepStore(tmp_path, "second").perform("distil", {}, lambda inside: {}).reused
