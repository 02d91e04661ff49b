"""Evaluation during training: visible only in the metrics and the best checkpoint."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from small_job import checked_job, job_text, make_workspace, stage_text
from small_training import (
    EMBEDDING,
    PREPROCESSING,
    assert_equal_bits,
    evaluated,
    make_network,
    make_training,
    watch,
    weights,
)

from curation.errors import UserError
from curation.pairs import read_pairs, write_pairs
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.set_features import NetworkFeatures
from distill.evaluation.set_source import SetSource
from distill.losses import parse_losses
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import check_fit
from distill.pipeline.job import JobRun
from distill.pipeline.record import RunRecord
from distill.pipeline.scores import PairAccuracies
from distill.pipeline.training import NETWORK, Stage
from distill.training.checkpoints import best_checkpoint, scores_of, step_of
from distill.training.config import TrainSettings
from distill.training.loop import STATE, Stopped, train
from teachers.embedder import TorchEmbedder


@pytest.fixture(scope="module")
def pairs(drawn_folder):
    return read_pairs(drawn_folder / "pairs.bin")


def with_pairs(training, pairs):
    return replace(training, evaluate=PairAccuracies(make_network(), PREPROCESSING, [pairs]))


def with_scores(training, scores, act=lambda: None):
    """The training with ``scores`` as its evaluations; calls ``act`` in the middle of each."""
    remaining = iter(scores)

    def scripted(state, progress):
        progress(1, 2)
        act()
        progress(2, 2)
        return {"pairs": next(remaining)}

    return replace(training, evaluate=scripted)


def checkpoint_names(folder):
    return sorted(path.name for path in folder.iterdir())


def saved_weights(checkpoint):
    return torch.load(checkpoint / STATE, weights_only=True)["engine"]["learner"]


@pytest.mark.parametrize(
    "engine", [{}, {"engine": "deepspeed"}, {"engine": "deepspeed", "zero_stage": 2}]
)
def test_evaluation_does_not_change_the_training(drawn_store, pairs, tmp_path, engine):
    unseen = make_training(drawn_store, epochs=2, **engine)
    train(unseen, tmp_path / "unseen", watch())
    seen = with_pairs(make_training(drawn_store, epochs=2, evaluate_every=1, **engine), pairs)
    train(seen, tmp_path / "seen", watch())
    assert_equal_bits(weights(seen), weights(unseen))
    assert seen.network.training


def test_the_scores_are_those_of_the_network_at_that_step(drawn_store, pairs, tmp_path):
    metrics = []
    training = with_pairs(make_training(drawn_store, epochs=2, evaluate_every=3), pairs)
    train(training, tmp_path, watch(metrics))
    lines = [line for line in metrics if "score" in line]
    assert [line["iteration"] for line in lines] == [3, 6, 8]
    embedder = TorchEmbedder(training.network, PREPROCESSING, "trained")
    expected = evaluate(NetworkFeatures(embedder), [pairs])["sets"]["pairs"]["accuracy"]
    assert lines[-1]["accuracy_pairs"] == lines[-1]["score"] == pytest.approx(expected, abs=1e-6)


def test_unusable_embeddings_have_no_score(pairs):
    network = make_network()
    broken = {name: each * float("nan") for name, each in network.state_dict().items()}
    score = PairAccuracies(network, PREPROCESSING, [pairs])
    assert score(broken, lambda done, total: None) == {}


def test_the_score_is_the_mean_over_the_sets(drawn_store, tmp_path):
    metrics = []
    training = make_training(drawn_store, epochs=1, evaluate_every=4)
    training = replace(training, evaluate=lambda state, progress: {"a": 0.5, "b": 0.75})
    train(training, tmp_path, watch(metrics))
    assert {"accuracy_a": 0.5, "accuracy_b": 0.75, "score": 0.625}.items() <= metrics[-1].items()


def test_the_best_and_the_last_checkpoint_are_kept(drawn_store, tmp_path):
    training = make_training(drawn_store, evaluate_every=2)
    train(with_scores(training, [0.5, 0.9, 0.8, 0.9, 0.7, 0.6, 0.5, 0.9]), tmp_path, watch())
    kept = ["best", "step-00000004", "step-00000015", "step-00000016"]
    assert checkpoint_names(tmp_path) == kept
    assert (tmp_path / "best").resolve() == best_checkpoint(tmp_path) == tmp_path / kept[1]
    assert json.loads((tmp_path / "best" / "manifest.json").read_text()).keys() == {
        "scores.json",
        "training.pt",
    }


def test_without_evaluation_there_is_no_best(drawn_store, tmp_path):
    train(make_training(drawn_store, epochs=2), tmp_path, watch())
    assert checkpoint_names(tmp_path) == ["step-00000006", "step-00000008"]
    assert best_checkpoint(tmp_path) is None


def test_a_resumed_training_keeps_the_same_best(drawn_store, tmp_path):
    metrics = []
    cut = with_scores(make_training(drawn_store, evaluate_every=2), [0.5, 0.9])
    with pytest.raises(Stopped):
        train(cut, tmp_path, watch(metrics, lambda: len(evaluated(metrics)) == 2))
    rest = with_scores(make_training(drawn_store, evaluate_every=2), [0.8] * 6)
    train(rest, tmp_path, watch(metrics))
    assert evaluated(metrics) == {2: 0.5, 4: 0.9, **dict.fromkeys(range(6, 17, 2), 0.8)}
    assert step_of(best_checkpoint(tmp_path)) == 4


@pytest.mark.parametrize("stopped_at", [4, 8], ids=["midway", "at the end"])
def test_an_interrupted_evaluation_is_done_on_resume(drawn_store, tmp_path, stopped_at):
    metrics, stopping = [], []

    def stop_at_that_step():
        if metrics[-1]["iteration"] == stopped_at:
            stopping.append(True)

    settings = {"epochs": 2, "evaluate_every": 2}
    scores = [0.5, 0.9, 0.8, 0.7]
    cut = with_scores(make_training(drawn_store, **settings), scores, stop_at_that_step)
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watch(metrics, lambda: bool(stopping)))
    assert stopped_at not in evaluated(metrics)
    assert scores_of(tmp_path / "cut" / f"step-{stopped_at:08d}") == {}

    again = with_scores(make_training(drawn_store, **settings), scores[stopped_at // 2 - 1 :])
    train(again, tmp_path / "cut", watch(metrics))
    assert evaluated(metrics) == dict(zip([2, 4, 6, 8], scores, strict=True))
    assert step_of(best_checkpoint(tmp_path / "cut")) == 4
    whole = make_training(drawn_store, epochs=2)
    train(whole, tmp_path / "whole", watch())
    assert_equal_bits(weights(again), weights(whole))


def test_the_best_weights_are_kept_on_request(drawn_store, tmp_path):
    metrics = []
    training = make_training(drawn_store, epochs=2, evaluate_every=2, keep="best")
    train(with_scores(training, [0.5, 0.9, 0.8, 0.7]), tmp_path / "best", watch(metrics))
    assert metrics[-1] == {"iteration": 8, "kept_iteration": 4, "kept_score": 0.9}

    metrics = []
    cut = make_training(drawn_store, epochs=2)
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watch(metrics, lambda: len(metrics) == 3))
    assert_equal_bits(weights(training), weights(cut))


def test_a_damaged_best_checkpoint_is_dropped_and_reported(drawn_store, tmp_path):
    def damage():
        if (best := tmp_path / "best" / STATE).exists():
            best.write_bytes(b"no more")

    training = make_training(drawn_store, epochs=2, evaluate_every=4, keep="best")
    with pytest.raises(UserError, match=r"step-00000004 is damaged; remove .* and run again"):
        train(with_scores(training, [0.9, 0.8], damage), tmp_path, watch())


def test_the_time_of_evaluations_is_not_that_of_training(drawn_store, tmp_path, monkeypatch):
    metrics, clock, passed = [], time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(passed))
    training = make_training(drawn_store, epochs=2, evaluate_every=4)
    slow = with_scores(training, [0.5] * 2, lambda: passed.append(3600.0))
    train(slow, tmp_path, watch(metrics))
    rates = [line["images_per_second"] for line in metrics if "images_per_second" in line]
    assert min(rates) > 12 / 1800


def test_a_network_without_an_accuracy_is_never_the_best(drawn_store, tmp_path):
    metrics = []
    training = make_training(drawn_store, epochs=2, evaluate_every=2, keep="best")
    scores = iter([{}, {"pairs": 0.5}, {}, {}])
    training = replace(training, evaluate=lambda state, progress: next(scores))
    train(training, tmp_path, watch(metrics))
    assert evaluated(metrics) == {4: 0.5}
    assert step_of(best_checkpoint(tmp_path)) == 4


def test_without_any_accuracy_there_is_no_best_to_keep(drawn_store, tmp_path):
    training = make_training(drawn_store, epochs=1, evaluate_every=2, keep="best")
    training = replace(training, evaluate=lambda state, progress: {})
    with pytest.raises(UserError, match="no accuracy at any evaluation"):
        train(training, tmp_path, watch())


def test_weights_that_are_no_numbers_have_no_accuracy(pairs):
    network = make_network()
    weights = {
        name: value * torch.nan if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    assert PairAccuracies(network, PREPROCESSING, [pairs])(weights, lambda done, total: None) == {}


def stage(pairs_file, **settings):
    architecture = Architecture("mobilefacenet", EMBEDDING, PREPROCESSING.size, 0.125)
    losses = parse_losses({"arcface": {}}, "losses")
    return Stage(
        architecture, losses, 1, TrainSettings(**settings), evaluation=(SetSource(pairs_file),)
    )


def test_evaluation_makes_another_step_only_to_keep_best(drawn_store, drawn_folder):
    def inputs(**settings):
        return stage(drawn_folder / "pairs.bin", **settings).inputs(drawn_store, None)

    assert inputs(evaluate_every=5) == inputs()
    assert inputs(evaluate_every=5, keep="best") != inputs()
    assert inputs(evaluate_every=5, keep="best") != inputs(evaluate_every=6, keep="best")
    digest = read_pairs(drawn_folder / "pairs.bin").digest
    assert inputs(evaluate_every=5, keep="best")["best"]["sets"] == [digest]


def test_the_best_cannot_be_kept_without_evaluation():
    with pytest.raises(ValidationError, match='keep: "best" needs evaluate_every'):
        TrainSettings(keep="best")


BEST = 'log_every = 1, evaluate_every = 3, keep = "best"'
JOB = job_text("tiny", stage_text(epochs=2), evaluate='["pairs", "drawn/train"]', train=BEST)


@pytest.mark.parametrize("sets", ["[]", '["drawn/train"]'], ids=["none", "only all pairs"])
def test_evaluation_without_sets_of_pairs_is_refused_first(workspace, sets):
    with pytest.raises(UserError, match=r"train\.evaluate_every: data\.evaluate") as said:
        checked_job(JOB.replace('["pairs", "drawn/train"]', sets), workspace)
    assert "\n" not in str(said.value)


@pytest.fixture
def odd_set(workspace):
    """Writes drawn/odd.bin: pairs of these kinds."""
    images = read_pairs(workspace.datasets / "drawn" / "pairs.bin").images

    def write(same):
        chosen = [images[number % len(images)] for number in range(2 * len(same))]
        write_pairs(workspace.datasets / "drawn" / "odd.bin", chosen, same)

    return write


@pytest.mark.parametrize(
    ("same", "words"),
    [
        ([True] * 40, "'odd': nothing can be measured .*: 0 impostor pairs are too few"),
        ([False] * 2000, "'odd': nothing can be measured .*: 0 genuine pairs are too few"),
        ([True, False] * 2, "'odd': nothing can be measured .*: 2 genuine pairs are too few"),
        ([False] * 1000 + [True] * 1000, "'odd': it gives no accuracy, .* are all impostor; order"),
    ],
    ids=["genuine", "impostors", "four", "in order"],
)
def test_a_set_that_gives_no_accuracy_is_refused_first(workspace, odd_set, same, words):
    odd_set(same)
    with pytest.raises(UserError, match=words) as said:
        check_fit(checked_job(JOB.replace('["pairs"', '["pairs", "odd"'), workspace), workspace)
    assert "\n" not in str(said.value)


def test_a_set_without_an_accuracy_is_taken_if_uncompared(workspace, odd_set):
    odd_set([False] * 1000 + [True] * 1000)
    text = JOB.replace('["pairs"', '["pairs", "odd"')
    text = text.replace(BEST, "log_every = 1")
    check_fit(checked_job(text, workspace), workspace)


def test_a_job_ends_with_its_best_weights_and_says_so(workspace):
    record = RunRecord(workspace.runs / "tiny")
    spec = checked_job(JOB, workspace)
    JobRun(spec, workspace, record, check_fit(spec, workspace)).run()
    lines = (record.folder / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    scores = evaluated(metrics)
    assert list(scores) == [3, 6, 8]

    step = record.folder / "checkpoints" / "generation-1"
    kept = json.loads((step / "result.json").read_text())["kept"]
    assert kept["score"] == max(scores.values()) == metrics[-1]["kept_score"]
    assert kept["iteration"] == metrics[-1]["kept_iteration"]
    best = saved_weights(step / "checkpoints" / "best")
    ours = {name: value for name, value in best.items() if name.startswith("network.")}
    kept_network = load_file(step / NETWORK)
    assert {f"network.{name}" for name in kept_network} == ours.keys()
    for name, value in kept_network.items():
        assert torch.equal(value, ours[f"network.{name}"].to(value.dtype)), name
    evaluation = json.loads((record.folder / "evaluation.json").read_text())
    assert evaluation["sets"]["pairs"]["accuracy"] == pytest.approx(kept["score"], abs=1e-6)


ON_TWO_RANKS = job_text("two-ranks", stage_text(), train=BEST.replace("3", "2") + ", ranks = 2")


@pytest.mark.slow
def test_on_two_ranks_the_first_evaluates_and_all_keep_the_same(
    drawn_store, drawn_folder, tmp_path
):
    workspace = make_workspace(tmp_path, drawn_store, drawn_folder)
    spec = tmp_path / "job.toml"
    spec.write_text(ON_TWO_RANKS)
    command = ["run", str(spec), "--workspace", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "distill", *command], check=True, capture_output=True)
    run = workspace.runs / "two-ranks"
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    step = run / "checkpoints" / "generation-1"
    assert list(evaluated(metrics)) == [2, 4]
    best = best_checkpoint(step / "checkpoints")
    assert metrics[-1]["kept_iteration"] == step_of(best)
    kept, saved = load_file(step / NETWORK), saved_weights(best)
    assert all(torch.equal(kept[name], saved[f"network.{name}"]) for name in kept)
