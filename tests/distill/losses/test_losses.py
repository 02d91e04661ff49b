"""Each loss compared with slow, obvious loops, over precisions, and at the limits of its range."""

import math

import pytest
import torch
from slow_math import arcface, cosine

from curation.errors import UserError
from distill.losses import LOSSES, LossInputs, WeightedLosses, parse_losses
from distill.losses.angular import Angular
from distill.losses.arcface import ArcFace, add_angular_margin


def inputs(batch=6, dimensions=5, identities=4, seed=0, dtype=torch.float32):
    """The batch has ``identities`` of the identities with centres; two have centres only."""
    torch.manual_seed(seed)
    teacher = torch.nn.functional.normalize(torch.randn(batch, dimensions))
    return LossInputs(
        embeddings=torch.randn(batch, dimensions, dtype=dtype),
        labels=torch.arange(batch) % identities,
        teacher=teacher,
        centres=torch.randn(identities + 2, dimensions),
        identity_counts=torch.arange(1, identities + 1),
        teacher_centres=torch.nn.functional.normalize(torch.randn(identities, dimensions)),
    )


@pytest.mark.parametrize(("scale", "margin"), [(64.0, 0.5), (30.0, 0.0), (16.0, 1.2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arcface_equals_the_formula_computed_one_angle_at_a_time(scale, margin, dtype):
    given = inputs(dtype=dtype)
    loss = ArcFace(scale=scale, margin=margin, embedding=5, identities=4)
    labels = given.labels.tolist()
    expected = arcface(
        given.embeddings.tolist(), labels, given.centres.tolist(), scale, [margin] * len(labels)
    )
    assert loss(given).item() == pytest.approx(expected, rel=1e-5)


def test_the_logit_falls_with_the_angle_all_the_way_to_pi():
    angles = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    with_margin = add_angular_margin(
        angles.cos()[:, None], torch.zeros(1001, dtype=torch.long), 0.5
    )
    assert (with_margin.flatten().diff() < 1e-9).all()


def test_the_gradient_is_finite_on_a_centre_and_opposite():
    centres = torch.eye(2, 3, requires_grad=True)
    embeddings = torch.tensor([[1.0, 0, 0], [0, -1.0, 0]], requires_grad=True)
    given = LossInputs(embeddings, torch.tensor([0, 1]), centres=centres)
    ArcFace(embedding=3, identities=2)(given).backward()
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(centres.grad).all()


def test_the_margin_has_the_gradient_of_its_formula():
    cosines = torch.tensor([[0.3, -0.2], [-0.95, 0.1]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0])
    assert torch.autograd.gradcheck(lambda c: add_angular_margin(c, labels, 0.5), cosines)


def test_angular_distillation_is_twice_one_minus_the_cosine():
    """VarGFaceNet Eq. 5: summed over dimensions, averaged over the batch."""
    given = inputs(batch=7, dimensions=16)
    cosines = [
        cosine(a, b) for a, b in zip(given.embeddings.tolist(), given.teacher.tolist(), strict=True)
    ]
    expected = sum(2 * (1 - value) for value in cosines) / 7
    assert Angular(embedding=16, identities=4)(given).item() == pytest.approx(expected, rel=1e-5)


def test_angular_is_the_squared_error_times_the_dimensions():
    given = inputs(dimensions=512)
    unit = torch.nn.functional.normalize(given.embeddings)
    error = torch.nn.functional.mse_loss(unit, given.teacher)
    assert Angular(embedding=512, identities=4)(given).item() == pytest.approx(512 * error.item())


def test_the_sum_weighs_its_parts_and_reports_them_unweighted():
    settings = parse_losses({"arcface": {"weight": 2.0}, "angular": {}}, "losses")
    losses = WeightedLosses(settings, 5, 4)(inputs())
    assert losses["total"].item() == pytest.approx(
        2 * losses["arcface"].item() + 7 * losses["angular"].item(), rel=1e-6
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_gives_a_finite_gradient(name):
    loss = LOSSES[name].build(LOSSES[name].settings(), 5, 4)
    given = inputs()
    leaves = given.embeddings.requires_grad_(), given.centres.requires_grad_()
    value = loss(given)
    value.backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert value.shape == ()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arcfase": {}}, ["losses.arcfase", "arcface"]),
        ({"arcface": {"scal": 3.0}}, ["losses.arcface.scal", "did you mean", "scale"]),
        ({"arcface": {"scale": "64"}}, ["losses.arcface.scale", "number"]),
        ({"arcface": {"margin": 2.0}}, ["losses.arcface.margin", "below"]),
        ({"angular": {"weight": -1.0}}, ["losses.angular.weight", "above 0"]),
        ({"angular": {"weight": math.inf}}, ["losses.angular.weight", "finite"]),
        ({}, ["losses", "at least one"]),
    ],
)
def test_wrong_settings_name_the_key_and_what_is_allowed(given, words):
    with pytest.raises(UserError) as error:
        parse_losses(given, "losses")
    assert all(word in str(error.value) for word in words)
