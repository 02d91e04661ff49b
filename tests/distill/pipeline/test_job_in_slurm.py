"""A whole job in a real Slurm, from its teacher to its bundle, on two nodes and then on one."""

import json
import subprocess
import sys

import psutil
import pytest
from small_job import (
    ARCFACE,
    job_text,
    make_workspace,
    quiet,
    stage_text,
    steps_of,
    teacher_text,
    wait_for,
)

from distill.daemon import client, stopping
from distill.daemon.names import Checked
from distill.daemon.states import State
from distill.training.checkpoints import newest_checkpoint, step_of

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
TWO_NODES = "[resources]\nnodes = 2\ncpus = 1\n"


@pytest.fixture
def workspace(tmp_path, drawn_store, drawn_folder, cluster):
    made = make_workspace(tmp_path / "workspace", drawn_store, drawn_folder)
    serve = [sys.executable, "-m", "distill.cli.main", "serve", "--executor", "slurm"]
    with subprocess.Popen([*serve, "--workspace", str(made.root)], env=quiet()) as daemon:
        wait_for(lambda: client.health(made))
        yield made
        for job in client.jobs(made):
            if not job.state.ended:
                stopping.cancel(made, [job.name])
        daemon.terminate()


def submit(workspace, *tables):
    guided = stage_text(f"{ARCFACE}, angular = {{}}", epochs=40)
    train = "log_every = 1, checkpoint_every = 10"
    text = job_text("job", guided, teacher_text(), *tables, train=train)
    client.submit(workspace, "job", text, True, lambda spec: Checked())


def rank_process(workspace, rank):
    for process in psutil.process_iter():
        try:
            ours = str(workspace.root) in process.cmdline()
            if ours and process.environ().get("RANK") == str(rank):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"there is no rank {rank}")


def test_from_teacher_to_bundle_over_a_kill_and_fewer_ranks(workspace):
    """On two nodes; a rank is killed; the job continues, is cancelled, and ends on one node."""
    submit(workspace, TWO_NODES)
    run = workspace.runs / "job"
    checkpoints = run / "checkpoints" / "generation-1" / "checkpoints"
    wait_for(lambda: newest_checkpoint(checkpoints), seconds=150)
    rank_process(workspace, 1).kill()
    wait_for(lambda: client.find_job(workspace, "job").attempt == 2)
    reasons = [line.reason for line in client.history(workspace, "job") if line.reason]
    assert "rank 1 of 2 was ended by SIGKILL" in reasons[0]
    steps = checkpoints.resolve()
    reached = step_of(newest_checkpoint(steps))
    wait_for(lambda: step_of(newest_checkpoint(steps)) > reached, seconds=150)
    [job] = stopping.cancel(workspace, ["job"])
    assert job.state is State.CANCELLED

    reached = step_of(newest_checkpoint(steps))
    submit(workspace)
    wait_for(lambda: client.find_job(workspace, "job").state.ended, seconds=150)
    assert client.find_job(workspace, "job").state is State.DONE
    done = steps_of(workspace, "job")
    assert (done["teach"], done["generation 1"]) == ("reused", "done")
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["iteration"] > reached, "it began anew"
    assert (run / "bundle" / "config.json").is_file()
