"""VarGFaceNet Eq. 4 compared with one cosine at a time, and with Eq. 5."""

import pytest
import torch
from slow_math import cosine, mean

from distill.losses import LOSSES, LossInputs


def vectors(batch=5, width=6, seed=0):
    torch.manual_seed(seed)
    return torch.randn(batch, width, dtype=torch.float64)


def loss(student, teacher, name="angular_squared"):
    entry = LOSSES[name]
    module = entry.build(entry.settings(), student.shape[1], 3)
    return module(LossInputs(student, torch.zeros(len(student), dtype=torch.long), teacher))


def gradient(student, teacher, name="angular_squared"):
    student = student.clone().requires_grad_()
    loss(student, teacher, name).backward()
    return student.grad


def test_it_is_the_squared_distance_of_the_cosine_from_one():
    student, teacher = vectors(), vectors(seed=1)
    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    expected = mean((1 - cosine(a, b)) ** 2 for a, b in pairs)
    assert loss(student, teacher).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["angular", "angular_squared"])
def test_both_equations_have_the_gradient_of_their_formula(name):
    teacher = vectors(seed=1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, name), vectors().requires_grad_())


def test_its_pull_is_that_of_equation_5_times_the_distance():
    """So it vanishes as the student gets it right: ``d (1 - cos)^2 = (1 - cos) d 2 (1 - cos)``."""
    student, teacher = vectors(1), vectors(1, seed=1)
    away = 1 - cosine(student[0].tolist(), teacher[0].tolist())
    expected = away * gradient(student, teacher, "angular")
    assert torch.allclose(gradient(student, teacher), expected)


@pytest.mark.parametrize(("factor", "expected"), [(3.0, 0.0), (-2.0, 4.0)])
def test_the_gradient_is_finite_on_the_teachers_line(factor, expected):
    teacher = vectors()
    assert loss(factor * teacher, teacher).item() == pytest.approx(expected, abs=1e-12)
    assert torch.isfinite(gradient(factor * teacher, teacher)).all()
