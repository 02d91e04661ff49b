"""Whole jobs on several ranks, under their own torchrun or another launcher, stopped and killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from small_job import job_text, stage_text, steps_of, teacher_text

from distill.training.checkpoints import newest_checkpoint, step_of

PATIENCE = 120
TEACHER = teacher_text()


class Running:
    """A job in a separate process."""

    def __init__(self, workspace, text, *launcher, name="job", epochs=2, settings="ranks = 2"):
        self.run = workspace.runs / name
        spec = workspace.root / f"{name}.toml"
        train = f"log_every = 1, checkpoint_every = 3, {settings}"
        spec.write_text(job_text(name, stage_text(epochs=epochs), text, train=train))
        command = [*launcher, "-m", "distill", "run", str(spec), "--workspace", str(workspace.root)]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def to_the_end(self):
        """The exit status and the terminal output."""
        out, errors = self.process.communicate(timeout=PATIENCE)
        wait_until(lambda: not self.ranks(), "the ranks outlived the job")
        return self.process.returncode, out + errors

    def ranks(self):
        """The processes of its ranks by number."""
        found = {}
        for process in psutil.process_iter():
            try:
                if "distill" in process.cmdline() and str(self.run.parent.parent) in " ".join(
                    process.cmdline()
                ):
                    found[process.environ()["RANK"]] = process
            except (psutil.Error, KeyError):
                continue
        return found

    def trained(self, iteration):
        """Wait until the job has done this many steps, according to its metrics."""
        wait_until(lambda: self.iterations() >= iteration, f"no step {iteration}", self.process)

    def iterations(self):
        path = self.run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((json.loads(line)["iteration"] for line in lines), default=0)

    def failure(self):
        return json.loads((self.run / "failure.json").read_text())["reason"]

    def weights(self, step="generation-1"):
        folder = self.run / "checkpoints" / step
        return [file.read_bytes() for file in sorted(folder.glob("*.safetensors"))]


def wait_until(true, complaint, process=None):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, complaint
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def torchrun(ranks, *options):
    return "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *options


def test_a_job_runs_on_its_ranks_and_is_the_same_on_one(workspace):
    job = Running(workspace, "", epochs=1)
    assert job.to_the_end()[0] == 0
    assert set(steps_of(workspace, "job").values()) == {"done"}
    assert (job.run / "bundle").is_dir()
    again = Running(workspace, "", name="again", epochs=1, settings="ranks = 1")
    assert again.to_the_end()[0] == 0
    assert steps_of(workspace, "again")["generation 1"] == "reused"


def test_a_stop_makes_all_ranks_save_and_end_in_seconds(workspace):
    job = Running(workspace, "", epochs=200)
    job.trained(4)
    began = time.monotonic()
    job.process.terminate()
    status, _ = job.to_the_end()
    assert time.monotonic() - began < 90
    assert status == 128 + signal.SIGTERM
    checkpoints = job.run / "checkpoints" / "generation-1" / "checkpoints"
    assert 4 <= step_of(newest_checkpoint(checkpoints)) < 800
    assert not (job.run / "failure.json").exists()


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_others_down_and_is_named(workspace):
    job = Running(workspace, "", epochs=200)
    job.trained(2)
    job.ranks()["1"].kill()
    status, said = job.to_the_end()
    assert status == 128 + signal.SIGKILL
    assert "rank 1 of 2 was ended by SIGKILL; was there enough memory? Its log " in said
    assert "rank 1 of 2 was ended by SIGKILL" in job.failure()
    assert "\n" not in job.failure()
    assert "Traceback" not in said


@pytest.mark.slow
def test_an_error_of_one_rank_is_reported_in_its_own_words(workspace, drawn_store):
    """One image is damaged, and only the rank with it in its share reads it."""
    file = bytes(drawn_store.read(7))
    data = workspace.image_set("drawn/train") / "data.mdb"
    data.write_bytes(data.read_bytes().replace(file, bytes(len(file))))
    status, said = Running(workspace, "").to_the_end()
    assert status == 1
    [reason] = [
        line for line in said.splitlines() if line.startswith("error: ") and "image" in line
    ]
    assert "Traceback" not in said
    assert json.loads((workspace.runs / "job" / "failure.json").read_text())["reason"] in reason


@pytest.mark.slow
def test_a_training_that_diverges_is_reported_once(workspace):
    job = Running(workspace, "", settings="ranks = 2, learning_rate = 1e30, warmup = 0.0")
    status, said = job.to_the_end()
    assert status == 1
    assert said.count("error: ") == 1
    assert "is not finite at step" in job.failure()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        "ranks = 2",
        'ranks = 2, engine = "deepspeed", zero_stage = 2',
        "ranks = 2, centres = { sharded = true, sample_rate = 0.5 }",
    ],
    ids=["torch", "deepspeed", "partial fc"],
)
def test_killed_as_a_whole_two_ranks_resume_to_the_same_bits(workspace, settings):
    """kill -9 of the job's process alone: its ranks die with it."""
    whole = Running(workspace, "", name="whole", settings=settings)
    assert whole.to_the_end()[0] == 0
    expected = whole.weights()
    shutil.rmtree(workspace.steps)

    job = Running(workspace, "", settings=settings)
    job.trained(5)
    job.process.kill()
    job.process.communicate()
    wait_until(lambda: not job.ranks(), "the ranks outlived the job")
    (job.run / "metrics.jsonl").unlink()

    resumed = Running(workspace, "", settings=settings)
    assert resumed.to_the_end()[0] == 0
    first = json.loads((job.run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["iteration"] > 1
    assert resumed.weights() == expected


@pytest.mark.slow
def test_two_machines_run_a_job_and_one_continues_alone(workspace):
    """Two torchruns meet on loopback; one is killed while the student is being trained."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    options = [
        "--nnodes",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        place,
        "--rdzv-id",
        "j",
    ]
    both = [
        Running(workspace, TEACHER, *torchrun(2, *options), epochs=100, settings="seed = 0")
        for _ in range(2)
    ]
    wait_until(lambda: list((both[0].run / "checkpoints").glob("generation-1/checkpoints/step-*")),
               "the student does not learn", both[0].process)  # fmt: skip
    assert len(both[0].ranks()) == 4
    both[1].process.kill()
    both[1].process.communicate()
    status, _ = both[0].to_the_end()
    assert status != 0
    assert steps_of(workspace, "job")["teach"] == "done"

    spec = both[0].run / "spec.toml"
    (workspace.root / "job.toml").write_text(spec.read_text())
    alone = Running(workspace, TEACHER, epochs=100, settings="seed = 0")
    alone.process.communicate(timeout=2 * PATIENCE)
    assert alone.process.returncode == 0
    assert steps_of(workspace, "job")["generation 1"] == "done"
    assert (alone.run / "bundle").is_dir()
