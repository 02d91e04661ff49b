"""A student of another width: losses that compare embeddings use a learned linear map."""

import pytest
import torch
import torch.nn.functional as F
from slow_math import cosine, mean

from curation.errors import UserError
from distill.losses import LOSSES, ComparisonSettings, LossInputs, WeightedLosses, parse_losses

STUDENT, TEACHER, IDENTITIES = 5, 8, 4
COMPARING = sorted(
    name for name, entry in LOSSES.items() if issubclass(entry.settings, ComparisonSettings)
)
RELATING = ["relational_angle", "relational_distance", "triplet_distillation"]


def batch(seed=0):
    torch.manual_seed(seed)
    embeddings = torch.randn(6, STUDENT, requires_grad=True)
    return LossInputs(embeddings, torch.arange(6) % IDENTITIES, torch.randn(6, TEACHER))


def weighted(chosen):
    torch.manual_seed(1)
    settings = parse_losses(chosen, "losses")
    losses = WeightedLosses(settings, STUDENT, IDENTITIES, teacher_embedding=TEACHER)
    if losses.needs_teacher_centres:
        losses.teacher_centres = F.normalize(torch.randn(IDENTITIES, TEACHER))
    return losses


@pytest.mark.parametrize("name", COMPARING)
def test_a_loss_that_compares_trains_the_network_and_the_map(name):
    losses, given = weighted({name: {"project": True}}), batch()
    losses(given)["total"].backward()
    projection = losses.projections[name].weight
    assert projection.shape == (TEACHER, STUDENT)
    assert projection.grad.abs().sum() > 0
    assert torch.isfinite(given.embeddings.grad).all()
    assert given.embeddings.grad.abs().sum() > 0


@pytest.mark.parametrize("name", RELATING)
def test_a_loss_that_relates_needs_no_map(name):
    losses, given = weighted({name: {}}), batch()
    losses(given)["total"].backward()
    assert not list(losses.parameters())
    assert given.embeddings.grad.abs().sum() > 0


def test_a_map_makes_no_sense_for_a_loss_that_relates():
    with pytest.raises(UserError, match=r"losses.relational_angle.project"):
        parse_losses({"relational_angle": {"project": True}}, "losses")


def test_the_loss_is_that_of_the_mapped_embeddings():
    losses, given = weighted({"angular": {"project": True}}), batch()
    mapped = given.embeddings @ losses.projections["angular"].weight.T
    pairs = zip(mapped.tolist(), given.teacher.tolist(), strict=True)
    expected = mean(2 * (1 - cosine(a, b)) for a, b in pairs)
    assert losses(given)["angular"].item() == pytest.approx(expected, rel=1e-5)


def test_the_other_losses_see_unchanged_embeddings():
    chosen = {"arcface": {}, "angular": {"project": True}, "relational_distance": {}}
    together, given = weighted(chosen), batch()
    alone = weighted({"arcface": {}, "relational_distance": {}})
    alone.centres = together.centres
    for name in ("arcface", "relational_distance"):
        assert together(given)[name].item() == alone(given)[name].item()


def test_a_map_can_be_learnt_between_equal_widths_too():
    settings = parse_losses({"angular": {"project": True}}, "losses")
    losses = WeightedLosses(settings, STUDENT, IDENTITIES)
    assert losses.projections["angular"].weight.shape == (STUDENT, STUDENT)


def test_maps_are_kept_and_the_teachers_centres_are_not():
    """Centres are recomputed from the cache; a checkpoint of 93,431 x 512 would grow by 182 MiB."""
    losses = weighted({"teacher_logits": {"project": True}})
    assert list(losses.state_dict()) == ["projections.teacher_logits.weight"]
