"""Relational distillation compared with loops over pairs and triples, and with equal images."""

import math

import pytest
import torch
import torch.nn.functional as F
from slow_math import cosine, distance, huber, mean, unit
from torch.utils._python_dispatch import TorchDispatchMode

from distill.losses import LossInputs
from distill.losses.relational import (
    RelationalAngle,
    relational_angle_loss,
    relational_distance_loss,
)


def distance_loss(student, teacher):
    return relational_distance_loss(F.normalize(student), F.normalize(teacher))


def angle_loss(student, teacher, *chunk):
    return relational_angle_loss(F.normalize(student), F.normalize(teacher), *chunk)


LOSSES = [distance_loss, angle_loss]


def embeddings(batch=6, width=5, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return torch.randn(batch, width, dtype=dtype)


def slow_distances(vectors):
    """Between all pairs, divided by the mean over different images."""
    vectors = [unit(vector) for vector in vectors]
    count = len(vectors)
    between = [distance(vectors[i], vectors[j]) for i in range(count) for j in range(count)]
    scale = sum(between) / (count * (count - 1))
    return [value / scale for value in between]


def slow_angles(vectors):
    """The cosine at j of every triple (i, j, k); 0 where i or k is j itself."""
    vectors = [unit(vector) for vector in vectors]
    cosines = []
    for corner in vectors:
        sides = [[x - y for x, y in zip(vector, corner, strict=True)] for vector in vectors]
        for a in sides:
            for b in sides:
                cosines.append(cosine(a, b) if any(a) and any(b) else 0.0)
    return cosines


@pytest.mark.parametrize("teacher_width", [5, 9])
@pytest.mark.parametrize(
    ("loss", "relations"), list(zip(LOSSES, [slow_distances, slow_angles], strict=True))
)
def test_it_equals_the_formula_computed_one_relation_at_a_time(loss, relations, teacher_width):
    student, teacher = embeddings(), embeddings(width=teacher_width, seed=1)
    pairs = zip(relations(student.tolist()), relations(teacher.tolist()), strict=True)
    expected = mean(huber(a - b) for a, b in pairs)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_has_the_gradient_of_its_formula(loss):
    student = embeddings().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, embeddings(width=7, seed=1)), student)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_zero_for_a_student_that_is_a_rotated_teacher(loss):
    """Only relations are compared, so neither rotation nor length matters."""
    teacher = embeddings(dtype=torch.float32)
    turn = torch.linalg.qr(embeddings(5, 5, seed=2, dtype=torch.float32)).Q
    lengths = torch.arange(1.0, 7.0)[:, None]
    assert loss(lengths * teacher @ turn, teacher).item() < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_that_coincide_give_a_finite_loss_and_gradient(loss, dtype):
    one = embeddings(1, dtype=dtype)
    teacher = embeddings(4, seed=1, dtype=dtype)
    for student in (one.expand(4, -1), torch.cat([one, one, embeddings(2, seed=2, dtype=dtype)])):
        for target in (teacher, teacher[:1].expand(4, -1)):
            given = student.clone().requires_grad_()
            value = loss(given, target)
            value.backward()
            assert math.isfinite(value.item())
            assert torch.isfinite(given.grad).all()
            assert given.grad.abs().max() < 1e3


@pytest.mark.parametrize("loss", LOSSES)
def test_a_single_image_has_no_relations(loss):
    student = embeddings(1).requires_grad_()
    value = loss(student, embeddings(1, seed=1))
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()


def test_the_angles_are_the_same_however_many_are_held_at_a_time():
    student, teacher = embeddings(), embeddings(width=7, seed=1)
    gradients = []
    for chunk in (1, 2 * 6**2, 1 << 20):
        given = student.clone().requires_grad_()
        angle_loss(given, teacher, chunk).backward()
        gradients.append(given.grad)
    assert torch.allclose(gradients[0], gradients[2])
    assert torch.allclose(gradients[1], gradients[2])


class LargestTensor(TorchDispatchMode):
    """Records the results of every operation, including the backward pass."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_the_angles_of_a_large_batch_are_never_held_together():
    student = embeddings(160, 8, dtype=torch.float32).requires_grad_()
    given = LossInputs(student, torch.arange(160), embeddings(160, 8, 1, torch.float32))
    with LargestTensor() as largest:
        RelationalAngle(embedding=8, identities=160)(given).backward()
    assert 160**2 < largest.elements <= 1 << 20 < 160**3
