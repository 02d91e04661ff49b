"""Triplet distillation compared with loops over all triplets, and in batches without any."""

import distillation_ranks
import pytest
import torch
from slow_math import distance, unit

from curation.errors import UserError
from distill.losses import LossInputs, parse_losses
from distill.losses.triplet_distillation import TripletDistillation

LABELS = [0, 0, 1, 1, 1, 2]


def embeddings(batch=6, width=5, seed=0):
    torch.manual_seed(seed)
    return torch.randn(batch, width, dtype=torch.float64)


def triplet_distillation_loss(student, teacher, labels, smallest, largest):
    given = {"smallest_margin": smallest, "largest_margin": largest}
    loss = TripletDistillation(**given, embedding=student.shape[1], identities=3)
    return loss(LossInputs(student, labels, teacher))


def triplets(labels):
    for anchor, identity in enumerate(labels):
        for positive, other in enumerate(labels):
            for negative, third in enumerate(labels):
                if anchor != positive and identity == other and identity != third:
                    yield anchor, positive, negative


def slow_loss(student, teacher, labels, smallest, largest):
    def excess(vectors, triplet):
        anchor, positive, negative = (unit(vectors[place]) for place in triplet)
        return distance(anchor, negative) ** 2 - distance(anchor, positive) ** 2

    apart = {triplet: max(0.0, excess(teacher, triplet)) for triplet in triplets(labels)}
    furthest = max(apart.values())
    broken = []
    for triplet, d in apart.items():
        margin = (largest - smallest) / furthest * d + smallest
        broken.append(max(0.0, margin - excess(student, triplet)))
    broken = [value for value in broken if value > 0]
    return sum(broken) / max(1, len(broken))


@pytest.mark.parametrize(("smallest", "largest"), [(0.2, 0.5), (0.3, 0.3), (0.0, 3.0)])
@pytest.mark.parametrize("teacher_width", [5, 8])
def test_it_equals_the_formula_computed_one_triplet_at_a_time(smallest, largest, teacher_width):
    student, teacher = embeddings(), embeddings(width=teacher_width, seed=1)
    expected = slow_loss(student.tolist(), teacher.tolist(), LABELS, smallest, largest)
    found = triplet_distillation_loss(student, teacher, torch.tensor(LABELS), smallest, largest)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_it_has_the_gradient_of_its_formula():
    labels, teacher = torch.tensor(LABELS), embeddings(width=7, seed=1)
    assert torch.autograd.gradcheck(
        lambda s: triplet_distillation_loss(s, teacher, labels, 0.2, 0.5),
        embeddings().requires_grad_(),
    )


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [7] * 6])
def test_without_triplets_there_is_nothing_to_learn(labels):
    student = embeddings().requires_grad_()
    loss = triplet_distillation_loss(student, embeddings(seed=1), torch.tensor(labels), 0.2, 0.5)
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_a_blind_teacher_asks_for_the_smallest_margin():
    student = embeddings(1).expand(6, -1).clone().requires_grad_()
    teacher = embeddings(1, seed=1).expand(6, -1)
    loss = triplet_distillation_loss(student, teacher, torch.tensor(LABELS), 0.2, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(0.2)
    assert torch.isfinite(student.grad).all()


def test_margins_in_the_wrong_order_are_refused_by_name():
    given = {"triplet_distillation": {"smallest_margin": 0.6}}
    with pytest.raises(UserError, match=r"smallest_margin: 0.6 is above largest_margin = 0.5"):
        parse_losses(given, "losses")


def test_two_ranks_have_the_loss_and_gradient_of_one(on_two_ranks):
    distillation_ranks.assert_the_same("triplet_distillation", on_two_ranks)
