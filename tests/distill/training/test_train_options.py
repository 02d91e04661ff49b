"""Options of a training: accumulation, bfloat16, activation checkpointing, retries."""

import json
import math

import pytest
import torch
from pydantic import ValidationError
from small_training import (
    EMBEDDING,
    PREPROCESSING,
    Plain,
    assert_equal_bits,
    make_network,
    make_training,
    watch,
    weights,
)
from torch import nn

from curation.errors import UserError
from distill.losses import WeightedLosses, parse_losses
from distill.training.activation_checkpointing import blocks, checkpoint_activations
from distill.training.checkpoints import newest_checkpoint, save_checkpoint
from distill.training.config import Retry, TrainSettings
from distill.training.data import BatchLoader
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.loop import train
from distill.training.shares import job_ranks
from distill.training.shuffles import FullShuffle


def one_step(store, network, settings):
    """The report and the weights after one step with 12 images."""
    torch.manual_seed(1)
    losses = WeightedLosses(parse_losses({"arcface": {}}, "losses"), EMBEDDING, store.identities)
    learner = Learner(network, losses, PREPROCESSING, bf16=settings.precision == "bf16")
    engine = create_engine(learner, settings)
    learner.train()
    with BatchLoader(store, PREPROCESSING, FullShuffle(len(store), 12, 0)) as loader:
        report = engine.step(next(iter(loader.batches(0, 1))), 0.1)
    return report, learner.state_dict()


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_accumulated_gradients_are_those_of_the_whole_batch(drawn_store, engine, clip):
    common = {"batch_size": 12, "engine": engine, "clip_gradient_norm": clip}
    whole, whole_weights = one_step(drawn_store, Plain(), TrainSettings(**common))
    parts, parts_weights = one_step(drawn_store, Plain(), TrainSettings(accumulate=4, **common))
    assert parts.losses["total"].item() == pytest.approx(whole.losses["total"].item(), rel=1e-5)
    assert parts.gradient_norm.item() == pytest.approx(whole.gradient_norm.item(), rel=1e-5)
    for name, value in whole_weights.items():
        assert torch.allclose(parts_weights[name], value, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_bfloat16_is_near_float32_with_weights_in_float32(drawn_store, engine):
    reports = {}
    for precision in ("fp32", "bf16"):
        settings = TrainSettings(batch_size=12, engine=engine, precision=precision)
        reports[precision], state = one_step(drawn_store, make_network(), settings)
        assert {value.dtype for value in state.values()} <= {torch.float32, torch.int64}
    fine, coarse = (reports[name].losses["total"] for name in ("fp32", "bf16"))
    assert coarse.dtype == torch.float32
    assert coarse != fine
    assert coarse.item() == pytest.approx(fine.item(), rel=0.05)


def test_activation_checkpointing_changes_no_bit(drawn_store, tmp_path):
    ends = {}
    for checkpointing in (False, True):
        training = make_training(
            drawn_store, epochs=1, activation_checkpointing=checkpointing, batch_size=24
        )
        train(training, tmp_path / str(checkpointing), watch())
        ends[checkpointing] = weights(training)
    assert_equal_bits(ends[True], ends[False])


def saved_bytes(network):
    """The bytes that a forward pass keeps for the backward pass."""
    kept = []

    def keep(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(4, 3, 32, 32))
    return sum(kept)


def test_activation_checkpointing_keeps_less():
    network = make_network().train()
    before = saved_bytes(network)
    checkpoint_activations(network)
    assert saved_bytes(network) < 0.6 * before


class WithDropout(nn.Module):
    """One block with random numbers, in a stage."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        block = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
        self.stage = nn.Sequential(block, nn.Linear(6, 2))

    def forward(self, x):
        return self.stage(x)


def test_activation_checkpointing_repeats_random_numbers():
    gradients = []
    for checkpointing in (False, True):
        network = WithDropout().train()
        if checkpointing:
            checkpoint_activations(network)
        torch.manual_seed(5)
        network(torch.ones(3, 6)).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_blocks_are_found_inside_stages_of_stages():
    inner = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)]
    network = nn.ModuleDict({"stages": nn.Sequential(nn.Sequential(*inner[:2]), inner[2])})
    assert list(blocks(network)) == inner


def test_activation_checkpointing_needs_stages():
    with pytest.raises(UserError, match=r"activation_checkpointing is true .* allowed: false"):
        checkpoint_activations(Plain())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zero_stage": 1}, r'zero_stage: 1 needs engine = "deepspeed".*allowed.*0'),
        (
            {"batch_size": 10, "accumulate": 4},
            r"batch_size: 10 .*micro-batches.*multiples of 4",
        ),
        (
            {"batch_size": 12, "ranks": 4, "accumulate": 2},
            r"ranks 4 x accumulate 2.*multiples of 8",
        ),
        ({"precision": "fp16"}, "'fp32' or 'bf16'"),
        ({"on_divergence": {"rate_factor": 2.0}}, "less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        TrainSettings(**settings)


def test_without_a_gpu_there_is_one_rank():
    assert job_ranks({("train",): TrainSettings()}) == 1


@pytest.mark.parametrize(("cores", "most"), [(2, 8), (64, 64)])
def test_ranks_are_limited_to_the_machine(monkeypatch, cores, most):
    monkeypatch.setattr("distill.training.shares.gpu_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert job_ranks({("train",): TrainSettings(ranks=most)}) == most
    with pytest.raises(UserError, match=rf"train\.ranks: 65 is above {most}, .* of {cores} cores"):
        job_ranks({("train",): TrainSettings(ranks=65, batch_size=65)})


def test_one_number_of_ranks_is_that_of_the_whole_job():
    said, unsaid = TrainSettings(ranks=2), TrainSettings()
    assert job_ranks({("teacher", "train"): unsaid, ("train",): said}) == 2
    assert job_ranks({("teacher", "train"): said, ("train",): unsaid}) == 2
    with pytest.raises(UserError, match=r"teacher\.train\.ranks is 2 and train\.ranks is 4; every"):
        job_ranks({("teacher", "train"): said, ("train",): TrainSettings(ranks=4)})


def test_the_launcher_decides_how_many_ranks_there_are(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert job_ranks({("train",): TrainSettings(ranks=2)}) == 4


@pytest.mark.parametrize("size", ["x", "-1", "", "0", "1", "9" * 400, "1.5", "\u0664"])
def test_an_invalid_launcher_variable_is_refused_by_name(monkeypatch, size):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="the launcher set"):
        job_ranks({("train",): TrainSettings()})


def diverging(store, **settings):
    return make_training(store, learning_rate=1e30, warmup=0.0, **settings)


def test_a_divergence_leaves_its_step_images_and_gradients(drawn_store, tmp_path):
    with pytest.raises(UserError, match=r"step \d+ \(learning rate .*divergence\.json"):
        train(diverging(drawn_store, log_every=100), tmp_path / "checkpoints", watch())
    found = json.loads((tmp_path / "divergence.json").read_text())
    step = found["step"]
    order, _ = FullShuffle(len(drawn_store), 12, 0).epoch(step // 4)
    assert found["images"] == order[step % 4 * 12 :][:12].tolist()
    assert found["learning_rate"] == pytest.approx(1e30, rel=0.1)
    assert {"total", "arcface"} == set(found["losses"])
    assert len(found["largest_gradients"]) == 10
    assert "network." in found["largest_gradients"][0]["parameter"]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
@pytest.mark.parametrize("clip", [None, 1.0], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_weights_never_take_what_is_not_a_number(
    drawn_store, tmp_path, optimiser, engine, clip, bad
):
    training = make_training(
        drawn_store,
        optimiser=optimiser,
        engine=engine,
        clip_gradient_norm=clip,
        learning_rate=1e-3,
        ema=0.9,
    )
    for parameter in training.network.parameters():
        parameter.register_hook(lambda gradient: gradient * bad)
    before = {name: value.clone() for name, value in training.network.named_parameters()}
    with pytest.raises(UserError, match="the gradient is not finite at step 0"):
        train(training, tmp_path, watch())
    for name, value in training.network.named_parameters():
        assert (value - before[name]).abs().max() < 0.01, name


@pytest.mark.parametrize("engine", [{}, {"engine": "deepspeed", "zero_stage": 1}])
def test_after_a_divergence_it_continues_at_a_lower_rate(drawn_store, tmp_path, engine):
    metrics = []
    retry = Retry(retries=2, rate_factor=1e-16)
    training = diverging(drawn_store, on_divergence=retry, epochs=2, **engine)
    train(training, tmp_path / "checkpoints", watch(metrics))
    back = [line for line in metrics if "diverged_at" in line]
    assert [line["rate_scale"] for line in back] == pytest.approx([1e-16, 1e-32])
    assert metrics[-1]["iteration"] == 8
    assert all(value.isfinite().all() for value in weights(training).values())


def test_a_training_that_diverges_again_and_again_is_given_up(drawn_store, tmp_path):
    training = diverging(drawn_store, on_divergence=Retry(retries=1, rate_factor=0.9))
    metrics = []
    with pytest.raises(UserError, match="not finite"):
        train(training, tmp_path / "checkpoints", watch(metrics))
    assert len([line for line in metrics if "diverged_at" in line]) == 1


def test_as_many_checkpoints_are_kept_as_one_asks_for(tmp_path):
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, lambda folder: (folder / "w").touch(), keep=3)
    assert len(list(tmp_path.iterdir())) == 3
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000005"


def test_metrics_have_the_gradient_norm_and_the_share_of_waiting(drawn_store, tmp_path):
    metrics = []
    train(make_training(drawn_store, epochs=1), tmp_path, watch(metrics))
    assert all(line["gradient_norm"] > 0 for line in metrics)
    assert all(0 <= line["data_wait"] <= 1 for line in metrics)


def test_tensorboard_is_refused_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr("distill.training.config.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"face-distill\[tensorboard\]"):
        TrainSettings(tensorboard=True)


def test_tensorboard_shows_the_numbers_of_the_metrics(drawn_store, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from distill.training.tensorboard import event_files

    metrics = []
    with event_files(tmp_path / "events", True, watch(metrics)) as watching:
        train(make_training(drawn_store, epochs=1), tmp_path / "checkpoints", watching)
    events = accumulator.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert shown == [(line["iteration"], pytest.approx(line["loss_total"])) for line in metrics]
