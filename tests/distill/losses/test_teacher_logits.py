"""Distillation of logits compared with one softmax at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from slow_math import cosine, mean, softmax

from distill.losses import LossInputs
from distill.losses.teacher_logits import TeacherLogits


def given(batch=5, identities=4, width=6, seed=0):
    torch.manual_seed(seed)
    return LossInputs(
        embeddings=torch.randn(batch, width, dtype=torch.float64),
        labels=torch.arange(batch) % identities,
        teacher=torch.randn(batch, width, dtype=torch.float64),
        teacher_centres=F.normalize(torch.randn(identities, width, dtype=torch.float64)),
    )


def loss(**settings):
    return TeacherLogits(**settings, standalone=False)


@pytest.mark.parametrize(("scale", "temperature"), [(64.0, 4.0), (64.0, 1.0), (10.0, 3.0)])
def test_it_is_the_divergence_of_two_softmaxes(scale, temperature):
    inputs = given()

    def probabilities(embedding):
        centres = inputs.teacher_centres.tolist()
        return softmax([scale * cosine(embedding, centre) / temperature for centre in centres])

    divergences = []
    for student, teacher in zip(inputs.embeddings.tolist(), inputs.teacher.tolist(), strict=True):
        wanted, found = probabilities(teacher), probabilities(student)
        divergences.append(
            sum(p * math.log(p / q) for p, q in zip(wanted, found, strict=True) if p)
        )
    expected = temperature**2 * mean(divergences)
    assert loss(scale=scale, temperature=temperature)(inputs).item() == pytest.approx(expected)


def test_it_has_the_gradient_of_its_formula():
    inputs = given()

    def of(embeddings):
        return loss()(
            LossInputs(
                embeddings, inputs.labels, inputs.teacher, teacher_centres=inputs.teacher_centres
            )
        )

    assert torch.autograd.gradcheck(of, inputs.embeddings.requires_grad_())


def test_a_student_that_agrees_has_nothing_to_learn():
    inputs = given()
    student = (3 * inputs.teacher).requires_grad_()
    value = loss()(
        LossInputs(student, inputs.labels, inputs.teacher, teacher_centres=inputs.teacher_centres)
    )
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-9


def test_a_single_identity_carries_no_information():
    assert loss()(given(identities=1)).item() == 0


def test_labels_do_not_matter():
    inputs = given()
    other = LossInputs(
        inputs.embeddings,
        inputs.labels.flip(0),
        inputs.teacher,
        teacher_centres=inputs.teacher_centres,
    )
    assert loss()(inputs).item() == loss()(other).item()
