"""The triplet losses: FaceNet's formula on mined triplets, for any number of ranks."""

from pathlib import Path

import pytest
import rank_triplets
import torch
from slow_math import distance, mean, unit

from distill.losses import LossInputs
from distill.losses.triplet import CentreTriplet, Triplet

MININGS = ["semi-hard", "hardest-semi-hard", "batch-hard"]
LABELS = torch.tensor([0, 0, 0, 3, 3, 3, 4, 4, 4, 7])


def embeddings(seed=0, dimensions=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LABELS), dimensions, dtype=dtype, generator=generator)


def centres(dtype=torch.float32):
    return torch.randn(40, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))


def triplet(mining, margin=0.3):
    return Triplet(mining=mining, margin=margin, embedding=3, identities=40)


def centre_triplet(mining, margin=0.3):
    return CentreTriplet(mining=mining, margin=margin, embedding=3, identities=40)


def squared(a, b):
    return distance(unit(a), unit(b)) ** 2


def violations_of_nearest_semi_hard(images, negatives, may_be_negative, margin):
    """The violation of each pair that has a semi-hard negative, and the number of pairs."""
    violations, pairs = [], 0
    for a in range(len(images)):
        for p in range(len(images)):
            if a != p and LABELS[a] == LABELS[p]:
                pairs += 1
                near = squared(images[a], images[p])
                distances = [
                    squared(images[a], negative)
                    for n, negative in enumerate(negatives)
                    if may_be_negative(a, n)
                ]
                semi_hard = [far for far in distances if near < far < near + margin]
                if semi_hard:
                    violations.append(near - min(semi_hard) + margin)
    return violations, pairs


def slow_batch_hard(images, margin):
    losses = []
    for a in range(len(images)):
        others = [k for k in range(len(images)) if k != a]
        same = [squared(images[a], images[k]) for k in others if LABELS[k] == LABELS[a]]
        different = [squared(images[a], images[k]) for k in others if LABELS[k] != LABELS[a]]
        if same:
            losses.append(max(0.0, max(same) - min(different) + margin))
    return losses


def test_hardest_semi_hard_is_the_mean_violation_of_pairs():
    given, loss = embeddings(), triplet("hardest-semi-hard")
    violations, pairs = violations_of_nearest_semi_hard(
        given.tolist(), given.tolist(), lambda a, n: LABELS[a] != LABELS[n], 0.3
    )
    assert loss(LossInputs(given, LABELS)).item() == pytest.approx(mean(violations), rel=1e-5)
    assert loss.statistics["mined_share"].item() == pytest.approx(len(violations) / pairs)
    assert loss.statistics["margin_violation"].item() == pytest.approx(mean(violations), rel=1e-5)


def test_centres_of_absent_identities_are_negatives_too():
    given, loss = embeddings(), centre_triplet("hardest-semi-hard")
    held = set(LABELS.tolist())
    violations, pairs = violations_of_nearest_semi_hard(
        given.tolist(), centres().tolist(), lambda a, n: n not in held, 0.3
    )
    found = loss(LossInputs(given, LABELS, centres=centres()))
    assert found.item() == pytest.approx(mean(violations), rel=1e-5)
    assert loss.statistics["centre_mined_share"].item() == pytest.approx(len(violations) / pairs)


def test_batch_hard_is_the_mean_over_images_with_a_positive():
    given, loss = embeddings(), triplet("batch-hard")
    losses = slow_batch_hard(given.tolist(), 0.3)
    assert loss(LossInputs(given, LABELS)).item() == pytest.approx(mean(losses), rel=1e-5)
    violating = [value for value in losses if value > 0]
    assert loss.statistics["mined_share"].item() == pytest.approx(len(violating) / len(LABELS))


def test_random_semi_hard_lies_between_the_nearest_and_none():
    given = LossInputs(embeddings(), LABELS)
    hardest, random = triplet("hardest-semi-hard"), triplet("semi-hard")
    losses = {round(random(given).item(), 6) for _ in range(20)}
    assert len(losses) > 1
    assert 0 < min(losses) <= max(losses) <= hardest(given).item() + 1e-6
    assert random.statistics["mined_share"] == hardest.statistics["mined_share"]


@pytest.mark.parametrize("build", [triplet, centre_triplet])
def test_the_loss_has_the_gradient_of_its_formula(build):
    loss = build("hardest-semi-hard")
    given = embeddings(dtype=torch.float64).requires_grad_()
    others = centres(torch.float64).requires_grad_()
    assert loss(LossInputs(given, LABELS, centres=others)) > 0
    assert torch.autograd.gradcheck(
        lambda x, w: loss(LossInputs(x, LABELS, centres=w)), (given, others)
    )


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize(
    "labels",
    [torch.arange(10), torch.zeros(10, dtype=torch.long)],
    ids=["no positives", "no negatives"],
)
def test_a_batch_without_triplets_gives_zero(mining, labels):
    given, loss = embeddings().requires_grad_(), triplet(mining)
    value = loss(LossInputs(given, labels))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(given.grad, torch.zeros_like(given))
    assert loss.statistics["mined_share"].item() == 0.0


@pytest.mark.parametrize("mining", MININGS)
def test_identical_embeddings_have_a_finite_gradient(mining):
    given = torch.ones(len(LABELS), 3, requires_grad=True)
    triplet(mining)(LossInputs(given, LABELS)).backward()
    assert torch.isfinite(given.grad).all()


@pytest.mark.parametrize("mining", MININGS)
def test_under_autocast_the_loss_is_computed_in_float32(mining):
    given = LossInputs(embeddings(dtype=torch.bfloat16), LABELS)
    plain = LossInputs(embeddings(dtype=torch.bfloat16).float(), LABELS)
    torch.manual_seed(0)
    expected = triplet(mining)(plain)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = triplet(mining)(given)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory, start_two_ranks):
    folder = tmp_path_factory.mktemp("triplets")
    script = Path(__file__).parent / "rank_triplets.py"
    start_two_ranks(script, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def on_one_rank():
    return rank_triplets.measure()


@pytest.mark.parametrize("batch", rank_triplets.BATCHES)
@pytest.mark.parametrize("loss", rank_triplets.LOSSES_OF)
def test_two_ranks_have_the_loss_gradients_and_statistics_of_one(
    on_one_rank, on_two_ranks, loss, batch
):
    value, statistics, gradients = on_one_rank[loss, batch]
    assert (value > 0) == (batch != "nothing")
    for found in on_two_ranks:
        assert found[loss, batch][0] == pytest.approx(value, rel=1e-5)
        assert found[loss, batch][1] == pytest.approx(statistics, rel=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(found[loss, batch][2][name], gradient, atol=1e-6), name
