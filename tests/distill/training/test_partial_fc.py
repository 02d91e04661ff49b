"""Sampled class weights: which are sampled, what a step updates, and what checkpoints contain."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from small_training import (
    EMBEDDING,
    PREPROCESSING,
    Plain,
    assert_equal_bits,
    engine_state,
    make_training,
    watch,
    weights,
)

from curation.errors import UserError
from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.losses.class_weights import SampledClassWeights, ShardedInputs
from distill.losses.settings_parsing import check_shardable
from distill.training import distributed
from distill.training.config import TrainSettings
from distill.training.engine import optimiser_state_that_fits
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.loop import Stopped, train
from distill.training.partial_fc import PartialCentres, sample_rows

IDENTITIES, WIDTH, BATCH = 23, 5, 4
ALL = 0.9999
"""A sample of all identities that still goes through the sampling code"""


def make_losses(losses, identities=IDENTITIES, width=WIDTH):
    torch.manual_seed(1)
    counts = torch.arange(1, identities + 1)
    return WeightedLosses(parse_losses(losses, "losses"), width, identities, counts)


def batch_at(step, identities=IDENTITIES):
    random = torch.Generator().manual_seed(step)
    return (
        torch.randn(BATCH, WIDTH, generator=random),
        torch.randint(identities, (BATCH,), generator=random),
    )


class Steps:
    """Steps of a plain softmax on sampled class weights, as the engine does them."""

    def __init__(self, make_optimiser, sample_rate=0.3, losses=None, seed=0):
        self.seed, self.losses = seed, make_losses(losses or {"softmax": {"scale": 4.0}})
        device = torch.device("cpu")
        self.partial = PartialCentres(self.losses, sample_rate, False, BATCH, device)
        self.optimiser = make_optimiser([self.partial.active])

    def __call__(self, step):
        """The identities that the step trained."""
        distributed.seed_step(self.seed, step)
        embeddings, labels = batch_at(step)
        self.optimiser.zero_grad()
        self.partial.gather(labels.numpy(), self.optimiser.state)
        self.losses(LossInputs(embeddings, labels))["total"].backward()
        self.optimiser.step()
        self.partial.scatter(self.optimiser.state)
        return self.losses.sampled.identities


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)


def plain(*names):
    """These losses with default settings."""
    return parse_losses({name: {} for name in names}, "losses")


class TestDraw:
    def test_the_batchs_identities_are_always_in_the_sample(self):
        steps = Steps(sgd)
        for step in range(30):
            held = steps(step)
            assert set(batch_at(step)[1].tolist()) <= set(held.tolist())
            assert len(held) == math.ceil(0.3 * IDENTITIES) == len(held.unique())

    def test_a_batch_larger_than_the_rate_decides_the_number(self):
        assert len(Steps(sgd, sample_rate=0.01)(0)) == BATCH

    def test_the_sample_follows_from_the_seed_and_the_step(self):
        first, again, other = Steps(sgd), Steps(sgd), Steps(sgd, seed=1)
        draws = [[steps(step).tolist() for step in range(5)] for steps in (first, again, other)]
        assert draws[0] == draws[1]
        assert draws[0] != draws[2]
        assert len({tuple(draw) for draw in draws[0]}) == 5

    def test_identities_outside_the_batch_are_equally_likely(self):
        random, times = np.random.default_rng(0), 3000
        own = torch.tensor([2, 7])
        counted = torch.zeros(10)
        for _ in range(times):
            counted[sample_rows(own, 10, 6, random)] += 1
        assert counted[own].tolist() == [times, times]
        others = counted[[0, 1, 3, 4, 5, 6, 8, 9]] / times
        torch.testing.assert_close(others, torch.full((8,), 0.5), atol=0.05, rtol=0)


def slow_gradient(centres, held, embeddings, labels, scale=4.0):
    """The gradient of the mean cross entropy over the ``held`` rows, by the chain rule."""
    gradient = {row: np.zeros(WIDTH) for row in held}
    for embedding, label in zip(embeddings, labels, strict=True):
        unit = embedding / np.linalg.norm(embedding)
        lengths = {row: np.linalg.norm(centres[row]) for row in held}
        cosines = {row: centres[row] @ unit / lengths[row] for row in held}
        total = sum(math.exp(scale * cosine) for cosine in cosines.values())
        for row in held:
            share = math.exp(scale * cosines[row]) / total - (row == label)
            direction = unit - cosines[row] * centres[row] / lengths[row]
            gradient[row] += scale * share * direction / lengths[row] / len(labels)
    return gradient


class TestStep:
    def test_only_drawn_rows_move_as_in_slow_loops(self):
        """With momentum and weight decay; an unsampled row keeps both unchanged."""
        steps = Steps(sgd)
        centres = steps.partial.store.double().numpy().copy()
        momentum = np.zeros_like(centres)
        rested = 0
        for step in range(12):
            before = steps.partial.store.clone()
            remembered = steps.partial.moments.get("momentum_buffer", torch.zeros(1)).clone()
            held = steps(step).tolist()
            embeddings, labels = (each.double().numpy() for each in batch_at(step))
            for row, gradient in slow_gradient(centres, held, embeddings, labels).items():
                momentum[row] = 0.9 * momentum[row] + gradient + 0.1 * centres[row]
                centres[row] -= 0.5 * momentum[row]
            others = [row for row in range(IDENTITIES) if row not in held]
            assert torch.equal(steps.partial.store[others], before[others])
            if step:
                after = steps.partial.moments["momentum_buffer"]
                assert torch.equal(after[others], remembered[others])
                rested += int(remembered[others].abs().sum(dim=1).count_nonzero())
            np.testing.assert_allclose(steps.partial.store, centres, atol=1e-5)
            np.testing.assert_allclose(
                steps.partial.moments["momentum_buffer"], momentum, atol=1e-5
            )
        assert rested > 20

    @pytest.mark.parametrize(
        ("optimiser", "keys"),
        [(sgd, {"momentum_buffer"}), (adamw, {"exp_avg", "exp_avg_sq"})],
    )
    def test_the_optimisers_state_of_a_row_moves_with_it(self, optimiser, keys):
        sampled, whole = Steps(optimiser, ALL), make_losses({"softmax": {"scale": 4.0}})
        plain = optimiser([whole.centres])
        for step in range(6):
            held = sampled(step)
            assert held.tolist() == list(range(IDENTITIES))
            plain.zero_grad()
            whole(LossInputs(*batch_at(step)))["total"].backward()
            plain.step()
        assert sampled.partial.moments.keys() == keys
        assert torch.equal(sampled.partial.store, whole.centres.detach())
        for key in keys:
            assert torch.equal(sampled.partial.moments[key], plain.state[whole.centres][key])

    def test_other_optimisers_leave_resting_rows_alone_too(self):
        steps = Steps(adamw)
        steps(0)
        before = {"": steps.partial.store.clone()}
        before |= {key: value.clone() for key, value in steps.partial.moments.items()}
        rest = torch.ones(IDENTITIES, dtype=torch.bool)
        rest[steps(1)] = False
        for key, value in {"": steps.partial.store, **steps.partial.moments}.items():
            assert torch.equal(value[rest], before[key][rest])
            assert not torch.equal(value[~rest], before[key][~rest])


class TestRenumbered:
    def inputs(self):
        torch.manual_seed(2)
        labels = torch.tensor([3, 11, 3, 22])
        return LossInputs(torch.randn(4, WIDTH), labels, teacher=torch.randn(4, WIDTH))

    @pytest.mark.parametrize(
        "losses",
        [
            {"arcface": {"class_balance": 0.9}},
            {"sv": {"filter_above": 0.1}},
            {"subcentre": {"subcentres": 3}},
            {"teacher_logits": {}, "arcface": {}},
            {"margin_distillation": {}, "intra": {}},
            {"center": {}, "adadistill": {}, "arcface": {}},
        ],
        ids=lambda losses: " ".join(losses),
    )
    def test_losses_see_the_held_rows_and_their_whole_state(self, losses):
        """The other losses use the original labels, with all their state."""
        plain, held = make_losses(losses), make_losses(losses)
        rows = torch.tensor([1, 3, 11, 20, 22])
        for each in (plain, held):
            each.teacher_centres = F.normalize(torch.eye(IDENTITIES, WIDTH) + 0.1)
        held.sampled = SampledClassWeights(rows, sharded=False)
        held.centres = torch.nn.Parameter(plain.centres.detach()[rows])
        given = self.inputs()
        found, everything = held(given), plain(given)
        columns = torch.tensor([1, 2, 1, 4])
        expected = LossInputs(
            given.embeddings,
            columns,
            given.teacher,
            plain.centres[rows],
            plain.identity_counts[rows],
            plain.teacher_centres[rows],
        )
        for name, loss in found.items():
            if name in ("center", "adadistill"):
                assert torch.equal(loss, everything[name])
                assert_equal_bits(held.parts[name].state_dict(), plain.parts[name].state_dict())
            elif name != "total":
                assert loss.item() == pytest.approx(plain.parts[name](expected).item(), rel=1e-6)

    def test_a_sharded_softmax_has_the_gradients_of_torch(self):
        torch.manual_seed(0)
        true = torch.randn(3, dtype=torch.float64, requires_grad=True)
        others = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([2, 0, 2])
        given = LossInputs(torch.randn(3, WIDTH), labels)
        sharded = ShardedInputs.gather(given, labels, labels)
        found, expected = sharded.cross_entropy(true, others), given.cross_entropy(true, others)
        torch.testing.assert_close(found, expected)
        assert torch.autograd.gradcheck(sharded.cross_entropy, (true, others))

    def test_a_true_column_elsewhere_counts_only_in_the_difference(self):
        """The second of three rows has its true column on another rank."""
        true, others = torch.tensor([1.0, 5.0, 2.0]), torch.zeros(3, 2)
        columns = torch.tensor([0, -1, 1])
        given = LossInputs(torch.zeros(3, WIDTH), columns)
        losses = ShardedInputs.gather(given, columns, columns).cross_entropy(true, others)
        expected = [math.log(math.e + 1) - 1, math.log(2) - 5, math.log(math.e**2 + 1) - 2]
        assert losses.tolist() == pytest.approx(expected)


def many_identities(store, **settings):
    """A training whose centres are those of more identities than its images have."""
    training = make_training(store, epochs=1, **settings)
    losses = make_losses({"arcface": {"scale": 16.0, "margin": 0.2}}, 40, EMBEDDING)
    return replace(training, network=Plain(), losses=losses)


class TestTraining:
    def test_a_sample_of_all_identities_is_the_plain_training(self, drawn_store, tmp_path):
        trainings = []
        for rate in (1.0, ALL):
            training = many_identities(drawn_store, centres={"sample_rate": rate})
            train(training, tmp_path / str(rate), watch())
            trainings.append(weights(training))
        assert_equal_bits(*trainings)

    def test_stopped_and_resumed_it_ends_with_the_same_bits(self, drawn_store, tmp_path):
        settings = {"centres": {"sample_rate": 0.4}, "accumulate": 2}
        whole = many_identities(drawn_store, **settings)
        train(whole, tmp_path / "whole", watch())
        steps = []
        cut = many_identities(drawn_store, **settings)
        with pytest.raises(Stopped):
            train(cut, tmp_path / "cut", watch(steps, lambda: len(steps) == 2))
        resumed = many_identities(drawn_store, **settings)
        train(resumed, tmp_path / "cut", watch())
        assert_equal_bits(weights(resumed), weights(whole))
        assert whole.losses.centres.shape == (40, EMBEDDING)

    def test_a_sampled_engine_has_the_state_of_a_plain_one(self, drawn_store, tmp_path):
        """So a training can continue with another rate, or without sampling."""
        training = many_identities(drawn_store, centres={"sample_rate": 0.4})
        train(training, tmp_path, watch())
        checkpoint = max(tmp_path.glob("step-*")) / "training.pt"
        state = torch.load(checkpoint, weights_only=True)["engine"]
        assert torch.equal(state["learner"]["losses.centres"], training.losses.centres.detach())
        for rate in (1.0, 0.6):
            settings = TrainSettings(batch_size=12, centres={"sample_rate": rate})
            fresh = many_identities(drawn_store)
            engine = create_engine(Learner(fresh.network, fresh.losses, PREPROCESSING), settings)
            engine.load(state)
            given = engine.state()
            assert_equal_bits(given["learner"], state["learner"])
            for key, by_name in state["optimiser"].items():
                assert_equal_bits(given["optimiser"][key], by_name)

    def test_without_class_centres_there_is_nothing_to_sample(self):
        settings = TrainSettings(batch_size=12, centres={"sample_rate": 0.1})
        losses = make_losses({"center": {}}, width=EMBEDDING)
        assert create_engine(Learner(Plain(), losses, PREPROCESSING), settings).centres is None


class TestRefused:
    def test_sampling_is_refused_with_another_engine(self):
        for centres in ({"sample_rate": 0.5}, {"sharded": True}):
            with pytest.raises(
                ValidationError, match='need engine = "torch"; allowed with'
            ) as said:
                TrainSettings(engine="deepspeed", centres=centres)
            assert len(said.value.errors()) == 1
        TrainSettings(engine="deepspeed", centres={"sample_rate": 1.0})

    @pytest.mark.parametrize("rate", [0.0, -0.1, 1.1])
    def test_a_rate_outside_0_to_1_is_refused(self, rate):
        with pytest.raises(ValidationError, match=r"centres\.sample_rate"):
            TrainSettings(centres={"sample_rate": rate})

    def test_losses_that_need_all_centres_are_refused_with_shards(self):
        check_shardable(plain("sv", "subcentre", "angular", "triplet", "center"))
        for name in ("intra", "inter", "uniformface", "centre_triplet"):
            with pytest.raises(UserError, match=rf"^{name}: needs the class"):
                check_shardable(plain("arcface", name))

    def test_fewer_identities_than_ranks_are_refused(self, monkeypatch):
        monkeypatch.setattr("distill.training.partial_fc.world_size", lambda: 30)
        with pytest.raises(UserError, match="23 identities for 30 ranks; allowed: up to 23 ranks"):
            PartialCentres(make_losses({"arcface": {}}), 1.0, True, BATCH, torch.device("cpu"))


def test_a_kept_optimiser_reaches_rows_not_drawn_yet(drawn_store, tmp_path):
    train(make_training(drawn_store, epochs=1), tmp_path, watch())
    before = engine_state(tmp_path)
    sampled = make_training(drawn_store, centres={"sample_rate": 0.1}, batch_size=4)
    learner = Learner(sampled.network, sampled.losses, PREPROCESSING)
    engine = create_engine(learner, sampled.settings)
    engine.load_optimiser(optimiser_state_that_fits(before, engine.shapes))
    assert_equal_bits(
        engine.state()["optimiser"]["momentum_buffer"], before["optimiser"]["momentum_buffer"]
    )
