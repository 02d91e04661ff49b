"""Stages: what one takes from the previous stage, and what changes its step identity."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from small_job import job_text, make_workspace, stage_text
from small_training import (
    EMBEDDING,
    ENGINES,
    PREPROCESSING,
    assert_equal_bits,
    engine_state,
    make_training,
    watch,
    weights,
)

from curation.errors import UserError
from distill.losses import parse_losses
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import check_fit
from distill.pipeline.job import JobRun
from distill.pipeline.record import RunRecord
from distill.pipeline.training import CHECKPOINTS, NETWORK, Stage, TrainedNetwork
from distill.spec import StageSpec
from distill.spec_text import parse_spec
from distill.training import distributed
from distill.training.checkpoints import final_checkpoint, save_checkpoint
from distill.training.config import TrainSettings
from distill.training.data import BatchLoader
from distill.training.engine import optimiser_state_that_fits
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.loop import STATE, Stopped, train
from distill.training.schedule import scheduled_rate
from distill.training.shuffles import FullShuffle

OPTIMISERS = {"sgd": {}, "adamw": {"optimiser": "adamw", "learning_rate": 1e-3}}


def by_hand(store, before, **settings):
    """The weights after one epoch from a saved state, without the loop."""
    training = make_training(store, epochs=1, **settings)
    engine = create_engine(
        Learner(training.network, training.losses, PREPROCESSING), training.settings
    )
    engine.load(before)
    engine.learner.train()
    with BatchLoader(store, PREPROCESSING, FullShuffle(len(store), 12, 0)) as loader:
        for step, batch in enumerate(loader.batches(0, 4)):
            distributed.seed_step(0, step)
            engine.step(batch, scheduled_rate(training.settings, step, 4))
    return weights(training)


def next_stage(store, checkpoints, **settings):
    """A training that starts from the weights and the optimiser of another."""
    training = make_training(store, epochs=1, **settings)
    learner = Learner(training.network, training.losses, PREPROCESSING)
    learner.load_state_dict(engine_state(checkpoints)["learner"])
    return replace(training, optimiser_from=checkpoints)


@pytest.mark.parametrize(("engine", "optimiser"), [("torch", "sgd"), ("zero 2", "adamw")])
def test_a_kept_optimiser_continues_like_one_training(drawn_store, tmp_path, engine, optimiser):
    settings = {**OPTIMISERS[optimiser], **ENGINES[engine]}
    train(make_training(drawn_store, epochs=1, **settings), tmp_path / "first", watch())
    kept = next_stage(drawn_store, tmp_path / "first", **settings)
    train(kept, tmp_path / "kept", watch())
    expected = by_hand(drawn_store, engine_state(tmp_path / "first"), **settings)
    assert_equal_bits(weights(kept), expected)
    nothing = {**engine_state(tmp_path / "first"), "optimiser": {}}
    fresh = by_hand(drawn_store, nothing, **settings)
    assert not torch.equal(weights(kept)["stem.0.weight"], fresh["stem.0.weight"])


def test_state_of_another_name_or_shape_starts_fresh(drawn_store, tmp_path):
    train(make_training(drawn_store, epochs=1, **OPTIMISERS["adamw"]), tmp_path, watch())
    before = engine_state(tmp_path)
    other = make_training(drawn_store, losses={"subcentre": {}}, **OPTIMISERS["adamw"])
    learner = Learner(other.network, other.losses, PREPROCESSING)
    engine = create_engine(learner, other.settings)
    fitting = optimiser_state_that_fits(before, engine.shapes)
    assert fitting.keys() == {"step", "exp_avg", "exp_avg_sq"}
    for key, by_name in fitting.items():
        assert before["optimiser"][key].keys() - by_name.keys() == {"losses.centres"}
    engine.load_optimiser(fitting)
    assert "losses.centres" not in engine.state()["optimiser"]["step"]


ARCHITECTURE = Architecture("mobilefacenet", EMBEDDING, PREPROCESSING.size, 0.125)


def make_stage(start=None):
    """With AdamW; with a ``start``, its optimiser continues."""
    small = {"batch_size": 12, "log_every": 1, "checkpoint_every": 3, "ema": 0.9}
    return Stage(
        ARCHITECTURE,
        parse_losses({"arcface": {"scale": 16.0, "margin": 0.2}}, "losses"),
        2,
        TrainSettings(**small, **OPTIMISERS["adamw"]),
        start and TrainedNetwork(ARCHITECTURE, start, "before"),
        optimiser="kept" if start else "fresh",
    )


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from curation.views import open_images
from distill.training.meter import Watch
from test_stages import make_stage
def metrics(line):
    if line["iteration"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
store, first, folder = map(Path, sys.argv[1:])
watch = Watch(metrics, lambda done, total: None, lambda: False)
make_stage(first).train(open_images(store), None, folder, watch)
"""


def test_killed_in_a_kept_stage_it_ends_with_the_same_bits(drawn_store, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    first, whole, cut = (tmp_path / name for name in ("first", "whole", "cut"))
    make_stage().train(drawn_store, None, first, watch())
    make_stage(first).train(drawn_store, None, whole, watch())

    command = [sys.executable, "-c", KILLED, str(drawn_store.path), str(first), str(cut)]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    outcome = subprocess.run(command, env=here, check=False)
    assert outcome.returncode == -signal.SIGKILL
    # From now on its own checkpoints are sufficient.
    (first / CHECKPOINTS).rename(tmp_path / "gone")
    lines = []
    make_stage(first).train(drawn_store, None, cut, watch(lines))
    torch.set_num_threads(threads)
    assert lines[0]["iteration"] == 4
    assert (cut / NETWORK).read_bytes() == (whole / NETWORK).read_bytes()


def test_the_optimiser_is_that_of_the_weights_that_were_kept(tmp_path):
    for step, score in ((5, 0.9), (10, 0.8)):
        save_checkpoint(
            tmp_path, step, lambda folder: (folder / STATE).touch(), 2, {"score": score}
        )
    assert final_checkpoint(tmp_path, "last").name == "step-00000010"
    assert final_checkpoint(tmp_path, "best").name == "step-00000005"


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_kept_stage_without_a_checkpoint_says_what_to_do(drawn_store, tmp_path, damage):
    checkpoints = tmp_path / "distil-1" / CHECKPOINTS
    if damage == "damaged":
        save_checkpoint(checkpoints, 5, lambda folder: (folder / STATE).touch())
        (checkpoints / "step-00000005" / STATE).write_text("no more")
    training = replace(make_training(drawn_store), optimiser_from=checkpoints)
    with pytest.raises(UserError, match=r"missing or damaged; remove .*distil-1 and run") as said:
        train(training, tmp_path / "next", watch())
    assert "\n" not in str(said.value)


def stage(start="fresh", **settings):
    architecture = Architecture("mobilefacenet", EMBEDDING, PREPROCESSING.size, 0.125)
    losses = parse_losses({"arcface": {}}, "losses")
    return Stage(architecture, losses, 1, TrainSettings(**settings), optimiser=start)


def test_a_step_from_before_new_settings_is_still_found(drawn_store):
    """All earlier settings; a step's identity is a digest of them."""
    inputs = stage().inputs(drawn_store, None)
    assert inputs.keys() == {
        "architecture",
        "epochs",
        "images",
        "losses",
        "sampler",
        "settings",
        "start",
        "teacher",
    }
    assert inputs["settings"] == {
        "batch_size": 512,
        "learning_rate": 0.1,
        "final_learning_rate": 1e-4,
        "schedule": "cosine",
        "warmup": 0.05,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "head_weight_decay": None,
        "clip_gradient_norm": None,
        "seed": 0,
        "shuffle": "full",
        "shuffle_window": 65536,
        "engine": "torch",
        "zero_stage": 0,
        "accumulate": 1,
        "precision": "fp32",
        "sync_batch_norm": True,
        "on_divergence": None,
    }


@pytest.mark.parametrize(
    "other",
    [
        stage("kept"),
        stage(ema=0.999),
        stage(**OPTIMISERS["adamw"]),
        stage(schedule="polynomial"),
        stage(learning_rate=0.01),
    ],
    ids=["kept", "ema", "adamw", "polynomial", "rate"],
)
def test_a_change_of_the_weights_makes_another_step(drawn_store, other):
    assert other.inputs(drawn_store, None) != stage().inputs(drawn_store, None)


def test_other_logging_and_saving_is_no_other_step(drawn_store):
    other = stage(log_every=7, checkpoint_every=2, keep_checkpoints=5)
    assert other.inputs(drawn_store, None) == stage().inputs(drawn_store, None)


def test_every_setting_of_a_schedule_makes_another_step(drawn_store):
    def settings(**given):
        return stage(**given).inputs(drawn_store, None)["settings"]

    steps = {"schedule": "step", "milestones": [0.5]}
    assert settings(**steps) != settings(**{**steps, "milestones": [0.6]})
    assert settings(**steps) != settings(**steps, decay=0.2)
    assert settings(schedule="polynomial") != settings(schedule="polynomial", power=1.0)


def test_a_stage_may_have_its_own_learning_rate():
    train_settings = TrainSettings(learning_rate=0.1, momentum=0.8)
    common = {"epochs": 1, "losses": {"arcface": {}}}
    assert StageSpec(**common).settings(train_settings) == train_settings
    own = StageSpec(**common, learning_rate=0.01).settings(train_settings)
    assert (own.learning_rate, own.momentum) == (0.01, 0.8)


KEPT = 'optimiser = "kept"\nlearning_rate = 0.01\n'
JOB = job_text(
    "staged", stage_text(), stage_text(more=KEPT), "[generations]\ncount = 2", train="ema = 0.9"
)


def test_stages_keep_the_optimiser_generations_start_fresh(drawn_store, drawn_folder, tmp_path):
    workspace = make_workspace(tmp_path, drawn_store, drawn_folder)

    def all_trained():
        return len(list(workspace.steps.glob("distil-*/result.json"))) == 4

    record = RunRecord(workspace.runs / "staged", stop=all_trained)
    spec = parse_spec(JOB, "spec")
    with pytest.raises(Stopped):  # the steps after the stages are not needed here
        JobRun(spec, workspace, record, check_fit(spec, workspace)).run()
    steps = json.loads((workspace.runs / "staged" / "steps.json").read_text())
    by_name = {step["name"]: workspace.steps / step["id"] for step in steps if step["id"]}
    inputs = {
        name: json.loads((path / "inputs.json").read_text()) for name, path in by_name.items()
    }
    trained = {name: given for name, given in inputs.items() if "settings" in given}
    assert {name: given.get("optimiser") for name, given in trained.items()} == {
        "generation 1 stage 1": None,
        "generation 1 stage 2": "kept",
        "generation 2 stage 1": None,
        "generation 2 stage 2": "kept",
    }
    assert [given["settings"]["learning_rate"] for given in trained.values()] == [0.1, 0.01] * 2
    momentum = [
        engine_state(by_name[name] / CHECKPOINTS)["optimiser"]["momentum_buffer"]
        for name in trained
    ]
    assert all(each.keys() == momentum[0].keys() for each in momentum)
