"""Training on several ranks: the numbers of one, exact and elastic resumes, no process left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import rank_trainings
import torch
from test_training import EMBEDDING, PREPROCESSING, assert_equal_bits, make_network

from curation.errors import UserError
from distill.losses import parse_losses
from distill.pipeline.architecture import Architecture
from distill.pipeline.steps import StepStore
from distill.pipeline.training import LOSSES, NETWORK, TrainingDescription
from distill.pipeline.work import Stage, train_network
from distill.training.checkpoints import newest_checkpoint, step_of
from distill.training.config import TrainSettings
from distill.training.divergence import Diverged
from distill.training.launch import fresh_folder, run_on_ranks
from distill.training.loop import STATE, Stopped
from distill.training.meter import Watch

HERE = Path(__file__).parent
WORKER = "distill.pipeline.worker"


def by_one(store, folder, stop_at=None, **settings):
    """A training in this process, on one thread as every rank has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return rank_trainings.run(store, folder, stop_at, **settings)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(drawn_store, tmp_path_factory, start_two_ranks):
    """What two ranks left (see rank_trainings), going on from a training cut off on one."""
    folder = tmp_path_factory.mktemp("ranks")
    by_one(drawn_store, folder / "from one", rank_trainings.CUT)
    script = HERE / "rank_trainings.py"
    start_two_ranks(script, drawn_store.path, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """Metrics (of rank 0) and weights of each training on two ranks."""
    return torch.load(folder / "found-0.pt")


@pytest.fixture(scope="module")
def alone(drawn_store, tmp_path_factory):
    """The same training on one rank."""
    return by_one(drawn_store, tmp_path_factory.mktemp("alone"))


def assert_same_curve(left, right):
    assert [line["iteration"] for line in left] == [line["iteration"] for line in right]
    for name in ("loss_total", "gradient_norm"):
        for a, b in zip(left, right, strict=True):
            assert a[name] == pytest.approx(b[name], rel=1e-3)


@pytest.mark.parametrize("engine", rank_trainings.ENGINES)
def test_two_ranks_have_the_losses_and_gradients_of_one(found, alone, engine):
    """Batch normalisation sees the whole batch, so that not even it makes a difference."""
    metrics, weights = found[engine]
    assert_same_curve(metrics, alone[0])
    for name, value in alone[1].items():
        assert torch.allclose(weights[name].float(), value.float(), rtol=1e-2, atol=1e-3), name


def test_all_ranks_end_with_the_same_weights(folder, found):
    other = torch.load(folder / "found-1.pt")
    for name, (metrics, weights) in other.items():
        assert metrics == []
        assert_equal_bits(weights, found[name][1])


@pytest.mark.parametrize("engine", ["torch", "zero 2"])
def test_stopped_and_resumed_two_ranks_end_with_the_same_bits(found, engine):
    assert found[f"{engine} resumed"][0][0]["iteration"] > 1
    assert_equal_bits(found[f"{engine} resumed"][1], found[engine][1])


def test_from_one_rank_a_training_goes_on_on_two_with_another_engine(found, alone):
    metrics = found["from one"][0]
    assert metrics[-1]["iteration"] == 4
    assert_same_curve(metrics, alone[0][-len(metrics) :])


def test_from_two_ranks_with_shards_a_training_goes_on_on_one(drawn_store, folder, alone):
    metrics, _ = by_one(drawn_store, folder / "to one")
    assert 1 < metrics[0]["iteration"] < 4
    assert_same_curve(metrics, alone[0][-len(metrics) :])


@pytest.fixture(scope="module")
def adamw_alone(drawn_store, tmp_path_factory):
    """The metrics and the last state of one rank with AdamW and averages."""
    folder = tmp_path_factory.mktemp("adamw")
    metrics, _ = by_one(drawn_store, folder, **rank_trainings.ADAMW)
    return metrics, last_state(folder)


def last_state(folder):
    return torch.load(newest_checkpoint(folder) / STATE, weights_only=True)


def assert_near(left, right):
    """Two states by parameter, each within a twentieth; a bias before a norm only has noise."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (right[name] - value).norm() <= 0.05 * value.norm() + 1e-12, name


def test_two_ranks_with_shards_have_the_moments_and_averages_of_one(folder, found, adamw_alone):
    assert_same_curve(found["adamw"][0], adamw_alone[0])
    assert_equal_bits(found["adamw resumed"][1], found["adamw"][1])
    state = last_state(folder / "adamw")
    for key in ("step", "exp_avg_sq"):
        assert_near(adamw_alone[1]["engine"]["optimiser"][key], state["engine"]["optimiser"][key])
    name = "stem.0.weight"
    assert torch.allclose(state["average"][name], adamw_alone[1]["average"][name], atol=1e-4)


def test_sharded_moments_of_two_ranks_go_on_on_one(drawn_store, folder, adamw_alone):
    metrics, _ = by_one(drawn_store, folder / "adamw to one", **rank_trainings.ADAMW)
    assert_same_curve(metrics, adamw_alone[0][-len(metrics) :])
    state = last_state(folder / "adamw to one")["engine"]["optimiser"]
    for key in ("step", "exp_avg_sq"):
        assert_near(adamw_alone[1]["engine"]["optimiser"][key], state[key])


@pytest.fixture
def describe(drawn_store, tmp_path):
    """Writes the description of a training on two ranks; gives its arguments for a launch."""

    def write(**settings):
        folder = fresh_folder(tmp_path / "ranks")
        small = {"batch_size": 12, "log_every": 1, "checkpoint_every": 3, "ranks": 2}
        description = TrainingDescription(
            backbone="mobilefacenet",
            embedding=EMBEDDING,
            width=0.125,
            preprocessing=PREPROCESSING,
            losses={"arcface": {"scale": 16.0, "margin": 0.2}},
            epochs=settings.pop("epochs", 2),
            settings=TrainSettings(**{**small, **settings}),
            images=drawn_store.path,
            cache=None,
            start=None,
            folder=tmp_path,
        )
        (folder / "description.json").write_text(description.model_dump_json())
        return [2, WORKER, [str(folder / "description.json")], folder]

    return write


class Follower:
    """A watch that keeps the metrics and acts when a step is reached."""

    def __init__(self, at=None, act=lambda: None):
        self.at, self.act, self.lines, self.stopping = at, act, [], False
        self.watch = Watch(self.metrics, lambda done, total: None, lambda: self.stopping)

    def metrics(self, line):
        self.lines.append(line)
        if line["iteration"] == self.at:
            self.act()

    def stop(self):
        self.stopping = True


def ranks_of(folder):
    """The processes of the ranks, by what they were given."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if str(folder / "description.json") in command and WORKER in command:
            found.append(process)
    return [each for each in found if "torchrun" not in " ".join(each.cmdline())]


def test_a_stop_reaches_all_ranks_which_save_and_end_within_seconds(describe, tmp_path):
    launch = describe(epochs=200)
    began = []

    def stop():
        follower.stop()
        began.append(time.monotonic())

    follower = Follower(4, stop)
    with pytest.raises(Stopped):
        run_on_ranks(*launch, follower.watch)
    assert time.monotonic() - began[0] < 15
    assert ranks_of(launch[3]) == []
    assert 4 <= step_of(newest_checkpoint(tmp_path / "checkpoints")) < 800


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_others_down_and_is_named(describe):
    launch = describe(epochs=200)

    def kill():
        [second] = [each for each in ranks_of(launch[3]) if each.environ()["RANK"] == "1"]
        second.kill()

    began = time.monotonic()
    with pytest.raises(UserError, match=r"rank 1 of 2 was ended by SIGKILL.*rank-1\.txt") as said:
        run_on_ranks(*launch, Follower(2, kill).watch)
    assert "\n" not in str(said.value)
    assert time.monotonic() - began < 60
    assert ranks_of(launch[3]) == []


@pytest.mark.slow
def test_a_mistake_is_said_in_its_own_words(describe):
    launch = describe(learning_rate=1e30, warmup=0.0)
    with pytest.raises(Diverged, match="is not finite at step"):
        run_on_ranks(*launch, Follower().watch)
    assert json.loads((launch[3].parent / "divergence.json").read_text())["images"]


@pytest.mark.slow
def test_a_job_trains_on_ranks_and_any_number_of_them_is_the_same_step(drawn_store, tmp_path):
    def perform(ranks):
        stage = Stage(
            Architecture("mobilefacenet", EMBEDDING, PREPROCESSING.size, 0.125),
            parse_losses({"arcface": {}}, "losses"),
            1,
            TrainSettings(batch_size=12, ranks=ranks),
        )
        follower = Follower()
        return train_network(
            "distil",
            stage,
            drawn_store,
            None,
            StepStore(tmp_path),
            follower.watch,
            lambda folder: None,
        )

    trained, outcome = perform(2)
    assert outcome.result["losses"]["loss_total"] > 0
    assert trained.load().state_dict().keys() == make_network().state_dict().keys()
    assert perform(1)[1].reused


PARENT = """
import json, sys
from pathlib import Path
from distill.training.launch import run_on_ranks
from distill.training.meter import Watch
def metrics(line):
    sys.stdout.write(json.dumps(line) + "\\n")
    sys.stdout.flush()
folder = Path(sys.argv[1])
run_on_ranks(2, "distill.pipeline.worker", [str(folder / "description.json")], folder,
             Watch(metrics, lambda done, total: None, lambda: False))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"engine": "deepspeed", "zero_stage": 2},
        {"centres": {"sharded": True, "sample_rate": 0.5}, "batch_size": 2, "epochs": 1},
    ],
    ids=["torch", "deepspeed", "partial fc"],
)
def test_killed_as_a_whole_two_ranks_resume_to_the_same_bits(describe, tmp_path, settings):
    """kill -9 of the job alone: the launcher and the ranks die with it."""
    launch = describe(**settings)
    run_on_ranks(*launch, Follower().watch)
    files = [tmp_path / NETWORK, tmp_path / LOSSES]
    whole = [file.read_bytes() for file in files]
    for left in (*(tmp_path / "checkpoints").iterdir(), *files):
        left.rename(tmp_path / f"whole-{left.name}")

    launch = describe(**settings)
    command = [sys.executable, "-c", PARENT, str(launch[3])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        while json.loads(job.stdout.readline())["iteration"] < 5:
            pass
        os.kill(job.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while ranks_of(launch[3]):
        assert time.monotonic() < deadline, "the ranks outlived the job"
        time.sleep(0.1)

    follower = Follower()
    run_on_ranks(*describe(**settings), follower.watch)
    assert follower.lines[0]["iteration"] > 1
    assert [file.read_bytes() for file in files] == whole
