"""Losses on class weights, compared with loops over images and classes."""

import math

import pytest
import torch
from slow_math import cosine, distance, mean, unit

from distill.losses import LOSSES, LossInputs
from distill.losses import inter as inter_module
from distill.losses.center import Center
from distill.losses.inter import nearest_of_others
from distill.losses.sampled_classes import SampledClasses
from distill.losses.uniformface import repulsion

CPU = torch.device("cpu")


def inputs(batch=7, width=5, identities=6, subcentres=(), dtype=torch.float32):
    torch.manual_seed(3)
    return LossInputs(
        torch.randn(batch, width).to(dtype),
        torch.arange(batch) % identities,
        centres=torch.randn(identities, *subcentres, width, dtype=torch.float64).to(dtype),
    )


def loss(name, **settings):
    return LOSSES[name].build(LOSSES[name].settings(**settings), 5, 6)


def slow_intra(given):
    return mean(
        math.acos(cosine(embedding, given.centres[label].tolist()))
        for embedding, label in zip(given.embeddings.tolist(), given.labels.tolist(), strict=True)
    )


def slow_inter(centres):
    return mean(
        max(cosine(one, other) for j, other in enumerate(centres) if j != i)
        for i, one in enumerate(centres)
    )


def slow_uniform(centres):
    centres = [unit(each) for each in centres]
    return mean(
        1 / (distance(one, other) + 1)
        for i, one in enumerate(centres)
        for j, other in enumerate(centres)
        if j != i
    )


def test_intra_is_the_mean_angle_in_radians():
    """Meituan Eq. 7."""
    assert loss("intra")(inputs()).item() == pytest.approx(slow_intra(inputs()), rel=1e-6)


@pytest.mark.parametrize("name", ["inter", "regularface"])
def test_inter_is_the_mean_of_the_largest_cosines_to_others(name):
    """Meituan Eq. 8."""
    expected = slow_inter(inputs().centres.tolist())
    assert loss(name)(inputs()).item() == pytest.approx(expected, rel=1e-5)


def test_uniformface_is_the_mean_energy_of_all_pairs():
    expected = slow_uniform(inputs().centres.tolist())
    assert loss("uniformface")(inputs()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tile", [(1, 1), (2, 3), (4, 100)])
def test_the_nearest_centre_is_the_same_in_tiles_of_any_size(tile, monkeypatch):
    monkeypatch.setattr(inter_module, "TILE", tile)
    centres = inputs(identities=11).unit_centres
    cosines = (centres @ centres.T).fill_diagonal_(-2)
    rows = torch.tensor([10, 0, 4, 7, 3])
    assert nearest_of_others(centres, rows).tolist() == cosines[rows].argmax(dim=1).tolist()


def test_a_subcentre_is_kept_from_other_identities_only():
    given = inputs(subcentres=(3,))
    centres = given.centres.tolist()
    expected = mean(
        max(cosine(one, other) for j, those in enumerate(centres) if j != i for other in those)
        for i, own in enumerate(centres)
        for one in own
    )
    assert loss("inter")(given).item() == pytest.approx(expected, rel=1e-5)


def test_some_sampled_classes_have_the_mean_of_all_on_average():
    given = inputs(identities=40)
    few, all_of_them = loss("inter", classes=5), loss("inter", classes=40)
    sampled = torch.stack([few(given) for _ in range(400)])
    assert sampled.std() > 1e-3
    assert sampled.mean().item() == pytest.approx(all_of_them(given).item(), abs=0.02)


def test_classes_are_sampled_again_without_repetition():
    sample = SampledClasses(60)
    first, second = sample(100, CPU), sample(100, CPU)
    assert len(set(first.tolist())) == len(set(second.tolist())) == 60
    assert not torch.equal(first, second)
    assert sample(3, CPU).tolist() == [0, 1, 2]


def test_a_resumed_training_samples_the_same_classes():
    uninterrupted, resumed = loss("inter", classes=3), loss("inter", classes=3)
    uninterrupted(inputs())
    resumed.load_state_dict(uninterrupted.state_dict())
    torch.rand(5)
    assert uninterrupted(inputs()) == resumed(inputs())


def test_sampling_does_not_change_in_evaluation():
    sample = SampledClasses(5).eval()
    assert torch.equal(sample(100, CPU), sample(100, CPU))


@pytest.mark.parametrize("name", ["intra", "inter", "uniformface"])
def test_losses_on_centres_have_the_gradient_of_their_value(name):
    given = inputs(dtype=torch.float64)
    leaves = given.embeddings.requires_grad_(), given.centres.requires_grad_()

    def value(embeddings, centres):
        return loss(name)(LossInputs(embeddings, given.labels, centres=centres))

    assert torch.autograd.gradcheck(value, leaves)


def test_the_repulsion_of_equal_and_opposite_vectors():
    one = torch.tensor([[1.0, 0.0]])
    assert repulsion(torch.cat([one, one])).item() == pytest.approx(1.0, abs=1e-5)
    assert repulsion(torch.cat([one, -one])).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["intra", "inter", "regularface", "uniformface"])
@pytest.mark.parametrize("centres", [torch.eye(3, 5), torch.ones(3, 5), torch.eye(1, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_for_equal_vectors(name, centres, dtype):
    centres = centres.clone().requires_grad_()
    embeddings = torch.eye(1, 5).repeat(4, 1).to(dtype).requires_grad_()
    given = LossInputs(embeddings, torch.arange(4) % len(centres), centres=centres)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(name)(given)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(centres.grad).all()


@pytest.mark.parametrize("name", ["inter", "uniformface"])
def test_centres_drift_apart(name):
    torch.manual_seed(0)
    centres = (torch.ones(6, 5) + 0.1 * torch.randn(6, 5)).requires_grad_()
    given = inputs()
    optimiser = torch.optim.SGD([centres], lr=1.0)
    for _ in range(100):
        optimiser.zero_grad()
        after = LossInputs(given.embeddings, given.labels, centres=centres)
        loss(name)(after).backward()
        optimiser.step()
    assert slow_inter(centres.tolist()) < 0.4


class TestCenter:
    def test_center_loss_follows_the_embeddings(self):
        """Wen et al., Eq. 2 to 4, over three batches, with each centre's images in plain lists."""
        torch.manual_seed(0)
        labels, centres = [0, 2, 2, 5, 2], [[0.0] * 5 for _ in range(6)]
        center = Center(rate=0.5, embedding=5, identities=6)
        for _ in range(3):
            batch = torch.randn(5, 5)
            rows = list(zip(batch.tolist(), labels, strict=True))
            expected = mean(distance(row, centres[label]) ** 2 / 2 for row, label in rows)
            found = center(LossInputs(batch, torch.tensor(labels)))
            assert found.item() == pytest.approx(expected, rel=1e-5)
            for identity in set(labels):
                own = [row for row, label in rows if label == identity]
                centres[identity] = [
                    value + 0.5 * sum(row[k] - value for row in own) / (1 + len(own))
                    for k, value in enumerate(centres[identity])
                ]
            torch.testing.assert_close(center.means, torch.tensor(centres))

    def test_its_centres_do_not_change_in_evaluation(self):
        center = Center(embedding=5, identities=6).eval()
        center(inputs())
        assert center.means.abs().sum() == 0

    def test_it_has_the_gradient_of_its_value(self):
        given = inputs(dtype=torch.float64)
        center = Center(embedding=5, identities=6).double().eval()
        assert torch.autograd.gradcheck(
            lambda embeddings: center(LossInputs(embeddings, given.labels)),
            given.embeddings.requires_grad_(),
        )
