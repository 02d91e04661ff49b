"""AdaDistill: hand-computed centres, the loss with them, and equal centres on every rank."""

from dataclasses import replace

import distillation_ranks
import pytest
import torch
import torch.nn.functional as F
from slow_math import arcface, cosine

from distill.losses import LossInputs
from distill.losses.adadistill import AdaDistill, moved_centres


def given(labels, width=5, seed=0):
    torch.manual_seed(seed)
    embeddings = torch.randn(len(labels), width, dtype=torch.float64)
    teacher = embeddings + 0.5 * torch.randn(len(labels), width, dtype=torch.float64)
    return LossInputs(embeddings, torch.tensor(labels), F.normalize(teacher))


def loss(identities=4, width=5, **settings):
    torch.manual_seed(3)
    return AdaDistill(**settings, embedding=width, identities=identities).double()


def slow_centre(centre, student, teacher):
    """The update of a centre by one image; Boutros et al., Eq. 6 to 8."""
    nearness = min(1.0, max(1e-6, cosine(centre, teacher)))
    momentum = min(1.0, max(1e-6, cosine(student, teacher) * nearness))
    return [momentum * c + (1 - momentum) * t for c, t in zip(centre, teacher, strict=True)]


def test_a_centre_moves_as_far_as_the_three_disagree():
    inputs, head = given([2, 0]), loss()
    before = head.centres.tolist()
    head(inputs)
    for row, label in enumerate([2, 0]):
        expected = slow_centre(
            before[label], inputs.embeddings[row].tolist(), inputs.teacher[row].tolist()
        )
        assert head.centres[label].tolist() == pytest.approx(expected)
    for untouched in (1, 3):
        assert head.centres[untouched].tolist() == before[untouched]


def test_several_images_move_their_centre_to_the_mean():
    inputs, head = given([1, 3, 1, 1]), loss()
    before = head.centres[1].tolist()
    head(inputs)
    proposals = [
        slow_centre(before, inputs.embeddings[row].tolist(), inputs.teacher[row].tolist())
        for row in (0, 2, 3)
    ]
    expected = torch.tensor(proposals).mean(dim=0).tolist()
    assert head.centres[1].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("margin", [0.45, 0.0, 1.5])
def test_the_loss_is_arcface_with_the_centres_after_the_move(margin):
    inputs, head = given([1, 3, 0, 1]), loss(margin=margin)
    found = head(inputs).item()
    expected = arcface(
        inputs.embeddings.tolist(), [1, 3, 0, 1], head.centres.tolist(), 64.0, [margin] * 4
    )
    assert found == pytest.approx(expected)


def test_it_has_the_gradient_of_its_formula():
    """With fixed centres, which are updated without a gradient."""
    inputs, head = given([1, 3, 0, 1]), loss().eval()
    assert torch.autograd.gradcheck(
        lambda embeddings: head(replace(inputs, embeddings=embeddings)),
        inputs.embeddings.requires_grad_(),
    )


def test_a_student_that_is_right_leaves_the_centre():
    teacher = F.normalize(torch.randn(1, 5, dtype=torch.float64))
    one = torch.ones(1, dtype=torch.float64)
    moved = moved_centres(teacher, teacher, one, torch.zeros(1, dtype=torch.long))
    assert torch.allclose(moved, teacher)


def test_a_student_that_disagrees_moves_its_centre():
    centre = torch.tensor([[1.0, 0.0]])
    teacher = torch.tensor([[0.0, 1.0]])
    moved = moved_centres(centre, teacher, torch.tensor([-1.0]), torch.tensor([0]))
    assert torch.allclose(moved, teacher, atol=1e-5)


def test_centres_move_in_training_only_and_are_kept():
    head = loss()
    head.eval()(given([1, 3]))
    before = head.state_dict()["centres"].clone()
    assert not list(head.parameters())
    head.train()(given([1, 3]))
    assert not torch.equal(head.state_dict()["centres"], before)


def test_the_gradient_is_finite_on_a_centre_and_opposite():
    inputs, head = given([0, 1, 2, 3]), loss().eval()
    embeddings = head.centres.clone()
    embeddings[1] *= -1
    embeddings.requires_grad_()
    head(replace(inputs, embeddings=embeddings)).backward()
    assert torch.isfinite(embeddings.grad).all()


def test_two_ranks_have_the_centres_of_one(on_two_ranks):
    alone = distillation_ranks.moved_centres(rank=0, ranks=1)
    for found in on_two_ranks:
        assert torch.allclose(found["centres"], alone, atol=1e-6)
