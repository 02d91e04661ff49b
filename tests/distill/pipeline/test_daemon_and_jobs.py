"""Real jobs under a real daemon, as started by commands: a step that two jobs need."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from small_job import make_workspace, steps_of, teacher_text, whole_job_text

from curation.workspace import Workspace
from distill.daemon import client, stopping
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.opening import open_queue
from distill.daemon.scheduler import Scheduler
from distill.daemon.server import distill_run
from distill.daemon.states import State

LONG = whole_job_text(teacher=teacher_text(epochs=3000)).replace("epochs = 2", "epochs = 3000")
PATIENCE = 120.0


def wait_until(condition: Callable[[], object], scheduler: Scheduler) -> float:
    """Act as the daemon until then; returns the number of seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE
        scheduler.step()
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture
def workspace(tmp_path, drawn_store, drawn_folder) -> Iterator[Workspace]:
    made = make_workspace(tmp_path / "workspace", drawn_store, drawn_folder)
    yield made
    for job in client.jobs(made):
        stopping.cancel(made, [job.name])


def images_done(workspace: Workspace, name: str) -> int:
    path = workspace.runs / name / "progress.json"
    return json.loads(path.read_text())["done"] if path.exists() else 0


@pytest.mark.slow
def test_a_job_that_needs_anothers_step_gives_way(workspace):
    """Two jobs of one spec: the second cannot train the same teacher at the same time."""
    with open_queue(workspace) as queue:
        executor = LocalExecutor(distill_run(workspace))
        scheduler = Scheduler(queue, executor, workspace.runs, slots=2)
        queue.submit("first", LONG.replace("tiny", "first"), time.time())
        wait_until(lambda: images_done(workspace, "first"), scheduler)
        for name in ("second", "third"):
            queue.submit(name, LONG.replace("tiny", name), time.time())
        wait_until(lambda: queue.job("second").blocked_by, scheduler)
        second = client.find_report(workspace, "second")
        assert (second.state, second.attempt) == (State.QUEUED, 1)
        told = "shares the step teach with job first, which is running it"
        assert queue.job("second").reason == told
        wait_until(lambda: queue.job("third").blocked_by, scheduler)  # it got the slot
        began = time.monotonic()
        assert stopping.cancel(workspace, ["second"])[0].state is State.CANCELLED
        assert time.monotonic() - began < 20
        stopping.cancel(workspace, ["first"])
        wait_until(lambda: images_done(workspace, "third"), scheduler)
        assert queue.job("third").interruptions == 0


@pytest.mark.slow
def test_a_run_by_hand_waits_for_the_step_and_says_so(workspace, tmp_path):
    with by_hand(workspace, tmp_path, "first") as first:
        deadline = time.monotonic() + PATIENCE
        while not images_done(workspace, "first"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with by_hand(workspace, tmp_path, "second") as second:
            said = ""
            while "waits" not in said:
                said = second.stderr.readline()
            assert said == "teach: waits for job first, which runs the same step\n"
            assert steps_of(workspace, "second")["teach"] == "running"
            second.terminate()
            assert second.wait(20) == 143
        first.terminate()
        assert first.wait(PATIENCE) == 143


@contextmanager
def by_hand(workspace, folder, name):
    """`distill run`, killed if it has not ended by itself."""
    (folder / name).write_text(LONG.replace("tiny", name))
    command = [sys.executable, "-m", "distill.cli.main", "run", "--workspace", workspace.root]
    with subprocess.Popen([*command, folder / name], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_rank_killed_by_the_kernel_interrupts_its_job(workspace):
    spec = LONG.replace("log_every = 1", "log_every = 1, ranks = 2")
    with open_queue(workspace) as queue:
        executor = LocalExecutor(distill_run(workspace))
        scheduler = Scheduler(queue, executor, workspace.runs)
        queue.submit("tiny", spec.replace("[teacher.train]", "[teacher.train]\nranks = 2"), 1.0)
        wait_until(lambda: images_done(workspace, "tiny"), scheduler)
        [rank] = [
            process
            for process in psutil.process_iter()
            if str(workspace.root) in " ".join(process.cmdline())
            and process.environ().get("RANK") == "1"
        ]
        rank.kill()
        wait_until(lambda: queue.job("tiny").interruptions, scheduler)
        job = queue.job("tiny")
        assert job.exit_status == 137
        assert "interrupted: rank 1 of 2 was ended by SIGKILL" in job.reason
