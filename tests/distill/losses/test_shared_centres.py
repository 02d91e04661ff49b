"""One parameter of class weights for all losses of a stage, passed to the next stage."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.backbones import create
from distill.export.safe_tensors import write_weights
from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.pipeline.training import LOSSES, NETWORK, _start_from


def weighted(losses, embedding=5, identities=4, counts=None):
    return WeightedLosses(parse_losses(losses, "losses"), embedding, identities, counts)


def batch(width=5, dtype=torch.float32):
    torch.manual_seed(0)
    return LossInputs(torch.randn(6, width, dtype=dtype), torch.arange(6) % 4)


class TestInputs:
    def test_cosines_are_computed_once_for_all_losses(self):
        centres = torch.randn(4, 5)
        given = LossInputs(torch.randn(6, 5), torch.arange(6) % 4, centres=centres)
        assert given.cosines is given.cosines
        expected = F.cosine_similarity(given.embeddings[:, None], centres[None], dim=2)
        torch.testing.assert_close(given.cosines, expected)

    def test_cosines_are_float32_under_autocast(self):
        centres = torch.randn(4, 512)
        embeddings = torch.randn(6, 512).bfloat16()
        given = LossInputs(embeddings, torch.arange(6) % 4, centres=centres)
        with torch.autocast("cpu", torch.bfloat16):
            cosines = given.cosines
        expected = F.cosine_similarity(embeddings.float()[:, None], centres[None], dim=2)
        assert cosines.dtype == torch.float32
        torch.testing.assert_close(cosines, expected, atol=1e-6, rtol=0)

    def test_a_loss_that_did_not_say_that_it_needs_centres_gets_none(self):
        with pytest.raises(AssertionError, match="needs_centres"):
            _ = batch().cosines


class TestWeightedLosses:
    def test_heads_and_losses_on_centres_share_them(self):
        losses = weighted({"arcface": {}, "combined": {}, "intra": {}, "inter": {}})
        assert [name for name, _ in losses.named_parameters()] == ["centres"]
        assert losses.centres.shape == (4, 5)
        losses(batch())["inter"].backward()
        assert losses.centres.grad.abs().sum() > 0

    def test_there_are_none_if_no_loss_needs_them(self):
        assert weighted({"angular": {}, "center": {}}).centres is None

    def test_each_identity_has_as_many_as_a_loss_asks_for(self):
        losses = weighted({"subcentre": {"subcentres": 3}, "intra": {}, "inter": {}})
        assert losses.centres.shape == (4, 3, 5)
        assert torch.isfinite(losses(batch())["total"])

    def test_counts_are_passed_on_and_are_no_part_of_the_weights(self):
        counts = torch.tensor([1, 10, 100, 1000])
        losses = weighted({"arcface": {"class_balance": 0.999}}, counts=counts)
        assert set(losses.state_dict()) == {"centres"}
        given, plain = batch(), weighted({"arcface": {}})
        plain.load_state_dict(losses.state_dict())
        assert losses(given)["total"] < plain(given)["total"]

    def test_heads_take_a_subset_of_centres_with_renumbered_labels(self):
        """Like sampled classes, with a subset that contains all relevant ones."""
        losses = weighted({"sv": {"class_balance": 0.9}}).parts["sv"]
        counts, centres, given = torch.tensor([1, 2, 3, 4]), torch.eye(4, 5), batch()
        chosen = torch.tensor([3, 1, 0, 2])
        all_of_them = LossInputs(given.embeddings, given.labels, None, centres, counts)
        renumbered = chosen.argsort()[given.labels]
        some = LossInputs(given.embeddings, renumbered, None, centres[chosen], counts[chosen])
        assert losses(some).item() == pytest.approx(losses(all_of_them).item(), rel=1e-6)

    def test_a_loss_at_the_start_is_that_of_chance(self):
        """Small random centres carry no information: a softmax gives each of K identities 1 / K."""
        losses = weighted({"softmax": {"scale": 0.001}}, identities=50)
        assert losses(batch())["softmax"].item() == pytest.approx(math.log(50), rel=1e-3)


class TestNextStage:
    @pytest.fixture
    def before(self, tmp_path):
        """The files of a stage of ArcFace, its network, and its losses."""
        network = create("mobilefacenet", 8, (32, 32), 0.125)
        losses = weighted({"arcface": {}, "curricularface": {}}, embedding=8)
        losses(batch(width=8))
        write_weights(tmp_path / NETWORK, network)
        write_weights(tmp_path / LOSSES, losses)
        return tmp_path, network, losses

    def test_heads_continue_with_the_centres_and_their_state(self, before):
        folder, network, losses = before
        following = weighted({"combined": {}, "curricularface": {}, "intra": {}}, embedding=8)
        _start_from(folder, network, following)
        assert torch.equal(following.centres, losses.centres)
        assert following.parts["curricularface"].t == losses.parts["curricularface"].t != 0

    def test_centres_of_another_shape_start_fresh(self, before):
        folder, network, _ = before
        following = weighted({"subcentre": {}}, embedding=8)
        fresh = following.centres.clone()
        _start_from(folder, network, following)
        assert torch.equal(following.centres, fresh)
