"""MarginDistillation compared with one angle at a time, with hand-computed margins."""

from dataclasses import replace

import distillation_ranks
import pytest
import torch
import torch.nn.functional as F
from slow_math import arcface, cosine

from curation.errors import UserError
from distill.losses import LossInputs, parse_losses
from distill.losses.margin_distillation import MarginDistillation
from distill.losses.triplet_distillation import teacher_margins


def given(batch=6, identities=4, width=5, seed=0):
    torch.manual_seed(seed)
    centres = F.normalize(torch.randn(identities, width, dtype=torch.float64))
    labels = torch.arange(batch) % identities
    near = centres[labels] + 0.4 * torch.randn(batch, width, dtype=torch.float64)
    embeddings = torch.randn(batch, width, dtype=torch.float64)
    return LossInputs(embeddings, labels, near, teacher_centres=centres)


def loss(**settings):
    return MarginDistillation(**settings, standalone=False)


@pytest.mark.parametrize(("smallest", "largest"), [(0.2, 0.5), (0.4, 0.4), (0.0, 1.5)])
def test_it_equals_the_formula_computed_one_image_at_a_time(smallest, largest):
    inputs = given()
    labels, centres = inputs.labels.tolist(), inputs.teacher_centres.tolist()
    certainty = [
        max(0.0, cosine(vector, centres[label]))
        for vector, label in zip(inputs.teacher.tolist(), labels, strict=True)
    ]
    margins = [(largest - smallest) / max(certainty) * each + smallest for each in certainty]
    expected = arcface(inputs.embeddings.tolist(), labels, centres, 64.0, margins)
    found = loss(smallest_margin=smallest, largest_margin=largest)(inputs)
    assert found.item() == pytest.approx(expected)


def test_it_has_the_gradient_of_its_formula():
    inputs = given()
    assert torch.autograd.gradcheck(
        lambda embeddings: loss()(replace(inputs, embeddings=embeddings)),
        inputs.embeddings.requires_grad_(),
    )


def test_the_more_certain_the_teacher_the_larger_the_margin():
    margins = teacher_margins(torch.tensor([0.8, 0.4, 0.0, -0.9]), 0.2, 0.5)
    assert margins.tolist() == pytest.approx([0.5, 0.35, 0.2, 0.2])


def test_an_uncertain_teacher_gives_the_smallest_margin():
    assert teacher_margins(torch.tensor([-0.1, 0.0]), 0.2, 0.5).tolist() == pytest.approx(
        [0.2, 0.2]
    )


def test_the_centres_stay_where_they_are():
    assert not list(loss().parameters())


def test_the_gradient_is_finite_on_a_centre_and_opposite_to_it():
    inputs = given()
    embeddings = inputs.teacher_centres[inputs.labels].clone()
    embeddings[1] *= -1
    embeddings.requires_grad_()
    loss()(replace(inputs, embeddings=embeddings)).backward()
    assert torch.isfinite(embeddings.grad).all()


def test_margins_in_the_wrong_order_are_refused_by_name():
    given = {"margin_distillation": {"smallest_margin": 0.6}}
    with pytest.raises(UserError, match=r"smallest_margin: 0.6 is above largest_margin = 0.5"):
        parse_losses(given, "losses")


def test_two_ranks_have_the_loss_and_gradient_of_one(on_two_ranks):
    """The largest margin belongs to the image with the highest certainty over all ranks."""
    distillation_ranks.assert_the_same("margin_distillation", on_two_ranks)
