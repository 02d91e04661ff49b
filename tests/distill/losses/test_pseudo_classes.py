"""Pseudo-classes: a divergence computed slowly, and a queue that drops the oldest entries."""

import math

import distillation_ranks
import pytest
import torch
from slow_math import cosine, mean, softmax, unit

from distill.losses import PseudoClasses


def batch(count=4, width=5, seed=0):
    torch.manual_seed(seed)
    return torch.randn(count, width), torch.randn(count, width)


def slow_loss(student, teacher, classes, temperature):
    """The loss of lists of vectors; ``classes`` are those in the queue."""

    def probabilities(vector):
        return softmax([cosine(vector, each) / temperature for each in classes])

    return mean(
        sum(p * math.log(p / q) for p, q in zip(probabilities(u), probabilities(x), strict=True))
        for x, u in zip(student, teacher, strict=True)
    )


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_it_is_the_divergence_over_all_images_of_the_queue(temperature):
    loss = PseudoClasses(embedding=5, queue=20, temperature=temperature)
    first, second = batch(seed=1), batch(seed=2)
    loss(first[0], teacher=first[1])
    found = loss(second[0], teacher=second[1]).item()
    classes = [*first[1].tolist(), *second[1].tolist()]
    expected = slow_loss(second[0].tolist(), second[1].tolist(), classes, temperature)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("size", "counts"), [(6, [4, 4, 4]), (4, [4, 4]), (3, [7, 2]), (5, [3])])
def test_the_queue_holds_the_last_images(size, counts):
    loss, given = PseudoClasses(embedding=5, queue=size), []
    for seed, count in enumerate(counts):
        student, teacher = batch(count, seed=seed)
        loss(student, teacher=teacher)
        given += [unit(vector) for vector in teacher.tolist()]
    kept = sorted(vector for vector in loss.queue.tolist() if any(vector))
    assert kept == [pytest.approx(vector, abs=1e-6) for vector in sorted(given[-size:])]


def test_it_has_the_gradient_of_its_formula():
    loss = PseudoClasses(embedding=5, queue=8).double()
    student, teacher = (each.double() for each in batch())
    loss(student, teacher=teacher)
    loss.eval()
    assert torch.autograd.gradcheck(
        lambda embeddings: loss(embeddings, teacher=teacher), student.requires_grad_()
    )


def test_the_queue_rests_while_the_network_is_evaluated():
    loss = PseudoClasses(embedding=5, queue=8).eval()
    student, teacher = batch()
    assert loss(student, teacher=teacher).item() == 0
    assert not loss.queue.any()


def test_a_student_that_agrees_has_nothing_to_learn():
    loss, (_, teacher) = PseudoClasses(embedding=5, queue=8), batch()
    student = (3 * teacher).requires_grad_()
    value = loss(student, teacher=teacher)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-5


def test_kept_state_continues_seamlessly():
    whole, (student, teacher) = PseudoClasses(embedding=5, queue=6), batch(seed=3)
    for seed in range(2):
        before = batch(seed=seed)
        whole(before[0], teacher=before[1])
    resumed = PseudoClasses(embedding=5, queue=6)
    resumed.load_state_dict(whole.state_dict())
    assert resumed(student, teacher=teacher) == whole(student, teacher=teacher)
    assert torch.equal(resumed.queue, whole.queue)


def test_two_ranks_have_the_queue_of_one(on_two_ranks):
    alone = distillation_ranks.queue_of_pseudo_classes(rank=0, ranks=1)
    for found in on_two_ranks:
        assert torch.allclose(found["queue"], alone)


def test_two_ranks_have_the_loss_of_one(on_two_ranks):
    distillation_ranks.assert_the_same("pseudo_classes", on_two_ranks)
