"""An attempt that is not the newest of its job writes nothing more, regardless of locks."""

import json

import pytest

from distill.daemon.attempts import Attempt
from distill.daemon.processes import ProcessIdentity, tag
from distill.daemon.runfolder import write_runner_record
from distill.fence import TAG_VARIABLE, Displaced, check_fence
from distill.pipeline.record import RunRecord, write_failure
from distill.pipeline.steps import StepStore
from distill.run_directory import FAILURE, RUNNER
from distill.training.checkpoints import newest_checkpoint, save_checkpoint

RUNNER_PROCESS = ProcessIdentity(1, 1, "a boot")


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """The newest attempt of its run folder, to which this process belongs."""
    run = tmp_path / "run #1"
    run.mkdir()
    mine = Attempt(run, 1, "aa")
    write_runner_record(mine, RUNNER_PROCESS)
    monkeypatch.setenv(TAG_VARIABLE, tag(mine))
    return mine


def displace(attempt, how):
    if how == "closed":
        write_runner_record(attempt, None)
    elif how == "of another queue":
        write_runner_record(Attempt(attempt.run, 1, "bb"), RUNNER_PROCESS)
    else:
        write_runner_record(Attempt(attempt.run, 2, "bb"), RUNNER_PROCESS)


@pytest.mark.parametrize("how", ["a later one", "of another queue", "closed"])
def test_every_record_is_refused_to_a_displaced_attempt(attempt, tmp_path, how):
    record = RunRecord(attempt.run)
    record.write_json("steps.json", [])
    displace(attempt, how)
    before = {path.name: path.stat().st_mtime_ns for path in attempt.run.iterdir()}
    for write in (
        lambda: record.write_json("steps.json", [1]),
        lambda: record.metrics({"loss": 1.0}),
        lambda: record.link("bundle", tmp_path),
        lambda: RunRecord(attempt.run),
        lambda: StepStore(tmp_path).perform("teach", {}, lambda folder: {}),
    ):
        with pytest.raises(Displaced, match="another attempt of this job has started"):
            write()
    write_failure(attempt.run, ValueError("of the old attempt"))
    assert not (attempt.run / FAILURE).exists()
    assert {path.name: path.stat().st_mtime_ns for path in attempt.run.iterdir()} == before


def test_a_checkpoint_that_takes_long_is_not_put_in_place(attempt, tmp_path):
    """Another attempt starts while it is written."""
    root = tmp_path / "checkpoints"
    save_checkpoint(root, 1, lambda folder: (folder / "training.pt").write_bytes(b"1"))

    def slowly(folder):
        (folder / "training.pt").write_bytes(b"2")
        displace(attempt, "a later one")

    with pytest.raises(Displaced):
        save_checkpoint(root, 2, slowly)
    assert newest_checkpoint(root).name == "step-00000001"


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", json.dumps({"attempt": "2"}).encode()])
def test_an_unreadable_record_displaces_no_job(attempt, content):
    (attempt.run / RUNNER).unlink()
    if content is not None:
        (attempt.run / RUNNER).write_bytes(content)
    check_fence()


def test_without_a_runner_there_is_no_fence(attempt, monkeypatch):
    displace(attempt, "a later one")
    monkeypatch.delenv(TAG_VARIABLE)
    check_fence()
