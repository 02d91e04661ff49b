"""The provenance of a job from its submission to the bundle."""

import json
import sys
import time
from pathlib import Path

import pytest
from outcomes import SUCCESS
from safetensors.torch import save_file
from small_job import job_text, make_workspace, stage_text
from test_daemon_commands import Ran, distill

from curation.workspace import Workspace
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.opening import open_queue
from distill.daemon.runfolder import freeze_provenance
from distill.daemon.scheduler import Scheduler
from distill.daemon.server import distill_run
from distill.daemon.states import State
from distill.pipeline.fit import check_job
from distill.pipeline.job import JobRun
from distill.pipeline.provenance import changed_since_submit
from distill.pipeline.record import RunRecord
from distill.spec_text import SpecFile
from tests.teachers.small_teacher import make_teacher


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("work"), drawn_store, drawn_folder)


@pytest.fixture(scope="module")
def spec(workspace: Workspace) -> Path:
    path = workspace.root / "small.toml"
    path.write_text(job_text("small", stage_text()))
    return path


def submit(workspace: Workspace, spec: Path, *settings: str) -> None:
    given = [part for each in settings for part in ("--set", each)]
    assert Ran(workspace, "submit", str(spec), *given).status == 0


def run_here(workspace: Workspace, name: str) -> None:
    """The job as its runner starts it, in this process."""
    spec = SpecFile.read(workspace.runs / name / "spec.toml")
    fit = check_job(spec, workspace)
    fit.notices += changed_since_submit(workspace.runs / name, spec.job, fit)
    JobRun(spec.job, workspace, RunRecord(workspace.runs / name), fit).run()


def change_queued(workspace: Workspace, name: str, data: str = "pairs") -> None:
    """Act as if code and data had been different when the job was submitted."""
    with open_queue(workspace) as queue:
        told = json.loads(queue.provenance(name))
        told["code"] |= {"digest": "0" * 64, "commit": "c" * 40, "changed": False}
        told["data"][data] = "0" * 64
        queue.keep_provenance(name, json.dumps(told))
        freeze_provenance(workspace.runs / name, queue.provenance(name))


def test_provenance_is_frozen_at_submit_and_in_the_bundle(workspace, spec) -> None:
    submit(workspace, spec, "name=set", "train.seed=3")
    shown = json.loads(Ran(workspace, "show", "set", "--json").stdout)["provenance"]
    assert shown["file"] == str(spec)
    assert shown["overrides"] == ["name=set", "train.seed=3"]
    assert shown["written"] == spec.read_text()
    assert set(shown["data"]) == {"drawn/train", "pairs"}
    assert shown["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert json.loads((workspace.runs / "set" / "provenance.json").read_text()) == shown
    assert "with --set name=set --set train.seed=3" in Ran(workspace, "show", "set").stdout
    run_here(workspace, "set")
    lineage = json.loads((workspace.runs / "set" / "bundle" / "lineage.json").read_text())
    kept = {key: value for key, value in shown.items() if key not in ("file", "written")}
    assert lineage["provenance"] == kept
    assert "warning" not in Ran(workspace, "show", "set").stdout


def test_a_change_before_the_start_is_reported_and_harmless(workspace, spec) -> None:
    submit(workspace, spec, "name=late", "train.seed=3")  # trained before
    change_queued(workspace, "late")
    run_here(workspace, "late")
    words = "changed since submission: the code was commit cccccccccccc and is "
    assert words in Ran(workspace, "show", "late").stdout
    bundle = (workspace.runs / "late" / "bundle").resolve()
    lineage = json.loads((bundle / "lineage.json").read_text())
    (changed,) = lineage["provenance"]["changed"]
    assert "the data set pairs had the digest 000000000000" in changed
    assert "changed since submission" not in (bundle / "README.md").read_text()


def test_changed_inputs_are_reported_before_steps_are_repeated(workspace, spec) -> None:
    submit(workspace, spec, "name=grown", "train.seed=3")  # trained before
    Ran(workspace, "cancel", "grown")
    words = "changed since the last run: the data set pairs had the digest 000000000000 and has"
    for command in ("check", "submit", "run"):
        change_queued(workspace, "grown")
        given = (command, str(spec), "--set", "name=grown", "--set", "train.seed=3")
        told = Ran(workspace, *given).stderr
        assert words in told
        assert "what depends on it is computed again" in told
        assert "the code was" not in told
    assert words not in Ran(workspace, *given).stderr
    assert words not in Ran(workspace, "check", str(spec), "--set", "name=grown").stderr


def of_file(name: str) -> str:
    """The keys of a network in a file of weights."""
    look = "{ colour = 'RGB', mean = 127.5, std = 127.5, size = [32, 32] }"
    network = 'backbone = "mobilefacenet", width = 0.125, embedding = 16'
    return f'from = "{name}", {network}, preprocessing = {look}'


def write_weights(workspace: Workspace, name: str, seed: int) -> None:
    path = workspace.teachers / name
    path.parent.mkdir(exist_ok=True)
    state = make_teacher(seed).module.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, path)


def test_a_done_job_is_not_mistaken_for_one_of_other_inputs(workspace) -> None:
    for name in ("teacher.safetensors", "start.safetensors"):
        write_weights(workspace, name, seed=0)
    teacher = f"teacher = {{ {of_file('teacher.safetensors')} }}"
    student = f"{{ {of_file('start.safetensors')} }}"
    learn = stage_text("angular = {}")
    spec = workspace.root / "finished.toml"
    spec.write_text(job_text("finished", teacher, learn, student=student))
    given = ("submit", str(spec))
    Ran(workspace, *given, "--priority", "9")
    with open_queue(workspace) as queue:
        job = queue.claim(1.0)
        assert job is not None
        queue.settle("finished", job.attempt, lambda cancelled: SUCCESS, 2.0)
    ran = Ran(workspace, *given)
    assert (ran.stdout, ran.stderr) == ("finished: already done\n", "")
    change_queued(workspace, "finished", "drawn/train")
    change_queued(workspace, "finished", "pairs")
    for name in ("teacher.safetensors", "start.safetensors"):
        write_weights(workspace, name, seed=1)
    told = Ran(workspace, *given).stderr
    assert "changed since the job was submitted: the data set drawn/train had the digest 0" in told
    for changed in ("data set pairs", "teacher teacher.safetensors", "beginning start.safetensors"):
        assert f"the {changed} had the digest " in told
    (workspace.teachers / "teacher.safetensors").unlink()
    ran = Ran(workspace, *given)
    assert (ran.stdout, ran.stderr) == ("finished: already done\n", "")


def test_a_submit_records_it_again_and_a_retry_keeps_it(workspace, spec) -> None:
    submit(workspace, spec, "name=again")
    frozen = json.loads((workspace.runs / "again" / "provenance.json").read_text())
    change_queued(workspace, "again")
    Ran(workspace, "cancel", "again")
    Ran(workspace, "retry", "again")
    told = json.loads(Ran(workspace, "show", "again", "--json").stdout)["provenance"]
    assert told["code"]["commit"] == "c" * 40
    Ran(workspace, "cancel", "again")
    submit(workspace, spec, "name=again")
    told = json.loads(Ran(workspace, "show", "again", "--json").stdout)["provenance"]
    assert told["code"] == frozen["code"]


def test_a_job_of_an_older_version_has_no_provenance(workspace) -> None:
    with open_queue(workspace) as queue:
        queue.submit("older", "name = 'older'", 1.0)
    assert json.loads(Ran(workspace, "show", "older", "--json").stdout)["provenance"] is None


@pytest.mark.slow
def test_real_processes_report_their_provenance(workspace, spec) -> None:
    submit(workspace, spec, "name=queued")
    change_queued(workspace, "queued")
    with open_queue(workspace) as queue:
        scheduler = Scheduler(queue, LocalExecutor(distill_run(workspace)), workspace.runs)
        end = time.monotonic() + 120
        while not queue.job("queued").state.ended:
            assert time.monotonic() < end
            scheduler.step()
            time.sleep(0.05)
        assert queue.job("queued").state is State.DONE, queue.job("queued").reason
    words = "changed since submission: the code was commit cccccccccccc and is "
    assert words in (workspace.runs / "queued" / "log.txt").read_text()
    assert distill(workspace, "run", str(spec), "--set", "name=hand").returncode == 0
    shown = json.loads(Ran(workspace, "show", "hand", "--json").stdout)
    assert shown["state"] == "run by hand"
    assert shown["provenance"]["overrides"] == ["name=hand"]
