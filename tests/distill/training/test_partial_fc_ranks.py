"""Class weights sharded over two real ranks give the numbers of one rank that has them all."""

from pathlib import Path

import pytest
import rank_partial_fc
import torch
from rank_partial_fc import CASES, CUT, IDENTITIES, IMAGES, SAMPLED, measure
from small_training import EMBEDDING, assert_equal_bits

from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.losses.class_weights import SampledClassWeights

CENTRES = "losses.centres"


@pytest.fixture(scope="module")
def folder(drawn_store, tmp_path_factory, start_two_ranks):
    """The results of rank_partial_fc.py."""
    folder = tmp_path_factory.mktemp("partial-fc")
    script = Path(rank_partial_fc.__file__)
    start_two_ranks(script, drawn_store.path, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """The results of each rank."""
    return [torch.load(folder / f"found-{rank}.pt") for rank in (0, 1)]


def assert_near(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_sharded_centres_train_as_the_plain_head(found, case):
    losses, settings = CASES[case]
    plain, sharded = measure(losses, **settings), found[0][case]
    assert sharded["losses"] == pytest.approx(plain["losses"], rel=1e-5)
    assert sharded["norm"] == pytest.approx(plain["norm"], rel=1e-5)
    assert plain["gradients"][CENTRES].abs().sum() > 0
    assert_near(sharded["gradients"], plain["gradients"])
    assert_near(sharded["weights"], plain["weights"])


def test_ranks_share_an_odd_number_of_identities(found):
    held = [rank["arcface"]["identities"] for rank in found]
    assert [len(each) for each in held] == [20, 21]
    assert torch.cat(held).tolist() == list(range(IDENTITIES))


def test_the_network_is_the_same_on_both_ranks(found):
    first, second = (rank["arcface"]["weights"] for rank in found)
    network = [name for name in first if name.startswith("network.")]
    assert network
    assert all(torch.equal(first[name], second[name]) for name in network)


class TestSampled:
    def test_a_ranks_sample_has_its_share_and_the_batch(self, found):
        held = [rank["sampled"]["identities"] for rank in found]
        assert [len(each) for each in held] == [IMAGES, IMAGES]
        assert held[0].max() < 20 <= held[1].min()
        together = set(torch.cat(held).tolist())
        assert set(rank_partial_fc.global_batch().labels.tolist()) <= together

    def test_without_shards_both_ranks_draw_the_same_rows(self, found):
        first, second = (rank["sampled alike"]["identities"] for rank in found)
        assert torch.equal(first, second)
        assert len(first) == max(13, IMAGES)
        assert_equal_bits(*(rank["sampled alike"]["weights"] for rank in found))

    @pytest.mark.parametrize("name", ["sampled", "sampled alike"])
    def test_the_loss_is_the_softmax_over_the_drawn_rows(self, found, name):
        """The loss and the centres' gradient, from the plain head on these rows only."""
        torch.manual_seed(5)
        chosen = parse_losses({"arcface": {"scale": 16.0}}, "losses")
        losses = WeightedLosses(chosen, EMBEDDING, IDENTITIES)
        held = torch.cat([rank["sampled"]["identities"] for rank in found])
        if name == "sampled alike":
            held = found[0][name]["identities"]
        batch, network = rank_partial_fc.global_batch(), rank_partial_fc.Plain()
        rows = losses.centres[held]
        pixels = (torch.from_numpy(batch.pixels).float() - 127.5) / 127.5
        labels = SampledClassWeights(held, sharded=False).columns(torch.from_numpy(batch.labels))
        embeddings = network(pixels.permute(0, 3, 1, 2))
        loss = losses.parts["arcface"](LossInputs(embeddings, labels, centres=rows))
        loss.backward()
        assert found[0][name]["losses"]["total"] == pytest.approx(loss.item(), rel=1e-5)
        gradients = found[0][name]["gradients"]
        torch.testing.assert_close(gradients[CENTRES], losses.centres.grad, rtol=1e-5, atol=1e-5)
        for key, parameter in network.named_parameters():
            value = gradients[f"network.{key}"]
            torch.testing.assert_close(value, parameter.grad, rtol=1e-5, atol=1e-5)


class TestTrainings:
    def test_resumed_sampled_shards_end_with_the_same_bits(self, found):
        for rank in found:
            assert_equal_bits(rank["resumed"][1], rank["whole"][1])
        metrics = found[0]["resumed"][0]
        assert 1 < metrics[0]["iteration"] <= metrics[-1]["iteration"] == 4

    def test_rank_0_ends_with_the_centres_of_all(self, found):
        assert found[0]["whole"][1]["centres"].shape == (IDENTITIES, EMBEDDING)

    def test_shards_continue_on_one_rank_without(self, drawn_store, folder, tmp_path):
        """The checkpoint has them completely: the rest of the curve is that of a plain training."""
        went_on, weights = rank_partial_fc.run(drawn_store, folder / "to one")
        plain, expected = rank_partial_fc.run(drawn_store, tmp_path)
        assert 1 < went_on[0]["iteration"] < 4
        for left, right in zip(went_on, plain[-len(went_on) :], strict=True):
            assert left["loss_total"] == pytest.approx(right["loss_total"], rel=1e-3)
        torch.testing.assert_close(weights["centres"], expected["centres"], rtol=1e-2, atol=1e-4)

    def test_a_plain_training_continues_sampled(self, drawn_store, tmp_path):
        rank_partial_fc.run(drawn_store, tmp_path, CUT)
        metrics, weights = rank_partial_fc.run(drawn_store, tmp_path, **SAMPLED)
        assert metrics[-1]["iteration"] == 4
        assert weights["centres"].shape == (IDENTITIES, EMBEDDING)
