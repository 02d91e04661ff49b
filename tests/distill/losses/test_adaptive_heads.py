"""Heads with state: AdaFace's norms and CurricularFace's progress, on one rank and on two."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from slow_math import cosine, mean, softmax

from distill.losses import LossInputs
from distill.losses.adaface import AdaFace, adaptive_margin
from distill.losses.center import Center
from distill.losses.curricularface import CurricularFace


def inputs(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    embeddings = torch.randn(8, 5, dtype=dtype) * torch.linspace(1, 20, 8, dtype=dtype)[:, None]
    return LossInputs(embeddings, torch.arange(8) % 4, centres=torch.randn(4, 5, dtype=dtype))


def slow_softmax_loss(given, scale, of_true, of_other):
    losses = []
    for row, label in enumerate(given.labels.tolist()):
        cosines = [cosine(given.embeddings[row].tolist(), each) for each in given.centres.tolist()]
        true = of_true(row, math.acos(cosines[label]))
        logits = [scale * of_other(value, true) for value in cosines]
        logits[label] = scale * true
        losses.append(-math.log(softmax(logits)[label]))
    return mean(losses)


class TestAdaFace:
    def test_margins_follow_the_norms_of_earlier_batches(self):
        """The authors' formulas over three batches, with statistics as plain numbers."""
        loss, average, deviation = AdaFace(scale=8.0, momentum=0.1, standalone=False), 20.0, 100.0
        for seed in range(3):
            given = inputs(seed)
            norms = [min(100, math.hypot(*each)) for each in given.embeddings.tolist()]
            spread = math.sqrt(sum((norm - mean(norms)) ** 2 for norm in norms) / 7)
            average, deviation = 0.9 * average + 0.1 * mean(norms), 0.9 * deviation + 0.1 * spread
            quality = [
                max(-1, min(1, 0.333 * (norm - average) / (deviation + 1e-3))) for norm in norms
            ]

            def of_true(row, angle, quality=quality):
                moved = max(1e-3, min(math.pi - 1e-3, angle - 0.4 * quality[row]))
                return math.cos(moved) - 0.4 - 0.4 * quality[row]

            expected = slow_softmax_loss(given, 8.0, of_true, lambda cosine, true: cosine)
            assert loss(given).item() == pytest.approx(expected, rel=1e-4)

    def test_images_of_usual_quality_have_the_margin_of_cosface(self):
        cosines = torch.linspace(-0.99, 0.99, 9)
        usual = adaptive_margin(cosines, torch.zeros(9), 0.4)
        torch.testing.assert_close(usual, cosines - 0.4)

    def test_the_margin_has_the_gradient_of_its_formula(self):
        cosines = torch.tensor([0.3, -0.9, 0.99], dtype=torch.float64, requires_grad=True)
        quality = torch.tensor([0.5, -1.0, 1.0], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda c: adaptive_margin(c, quality, 0.4), cosines)

    def test_no_gradient_goes_through_the_norms(self):
        given = inputs()
        given.embeddings.requires_grad_()
        AdaFace(embedding=5, identities=4)(given).backward()
        along = (given.embeddings.grad * F.normalize(given.embeddings)).sum(dim=1)
        assert given.embeddings.grad.norm(dim=1).min() > 1e-3
        assert along.abs().max() < 1e-5

    def test_statistics_do_not_change_in_evaluation(self):
        loss, given = AdaFace(embedding=5, identities=4), inputs()
        loss(LossInputs(given.embeddings[:1], given.labels[:1], centres=given.centres))
        loss.eval()(given)
        assert (loss.mean.item(), loss.deviation.item()) == (20.0, 100.0)


class TestCurricularFace:
    def test_hard_identities_count_by_the_mean_target_cosine(self):
        loss, t = CurricularFace(scale=8.0, momentum=0.2, standalone=False), 0.0
        for seed in range(3):
            given = inputs(seed)
            true = [
                cosine(given.embeddings[row].tolist(), given.centres[label].tolist())
                for row, label in enumerate(given.labels.tolist())
            ]
            t = 0.8 * t + 0.2 * mean(true)

            def of_true(row, angle):
                far = math.cos(angle) - 0.5 * math.sin(0.5)
                return math.cos(angle + 0.5) if angle + 0.5 < math.pi else far

            def of_other(cosine, true, t=t):
                return cosine * (t + cosine) if cosine > true else cosine

            expected = slow_softmax_loss(given, 8.0, of_true, of_other)
            assert loss(given).item() == pytest.approx(expected, rel=1e-5)
            assert loss.t.item() == pytest.approx(t, rel=1e-5)

    def test_the_average_does_not_change_in_evaluation(self):
        loss = CurricularFace(embedding=5, identities=4).eval()
        loss(inputs())
        assert loss.t.item() == 0.0

    def test_two_micro_batches_go_forward_before_any_backward(self):
        loss, given = CurricularFace(embedding=5, identities=4), inputs()
        given.embeddings.requires_grad_()
        first, second = loss(given), loss(given)
        (first + second).backward()
        assert torch.isfinite(given.embeddings.grad).all()


def state_after_a_batch(given):
    """The state of three losses after one batch."""
    losses = (
        AdaFace(embedding=5, identities=4),
        CurricularFace(embedding=5, identities=4),
        Center(embedding=5, identities=4),
    )
    for loss in losses:
        loss(given)
    return [buffer for loss in losses for buffer in loss.buffers()]


RANK = """
import sys, torch, torch.distributed as dist
from test_adaptive_heads import inputs, state_after_a_batch
from distill.losses import LossInputs
dist.init_process_group("gloo")
whole, rank = inputs(), dist.get_rank()
own = slice(4 * rank, 4 * rank + 4)
given = LossInputs(whole.embeddings[own], whole.labels[own], centres=whole.centres)
torch.save(state_after_a_batch(given), f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_remember_what_one_would(tmp_path, start_two_ranks):
    script, here = tmp_path / "rank.py", Path(__file__).parent
    script.write_text(RANK)
    path = f"{here}{os.pathsep}{here.parents[2]}"
    start_two_ranks(script, tmp_path, PYTHONPATH=path)
    alone = state_after_a_batch(inputs())
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone)
