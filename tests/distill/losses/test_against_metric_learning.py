"""Heads give the same values as pytorch-metric-learning's losses with the same centres."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as their_losses
from pytorch_metric_learning import regularizers as their_regularizers

from distill.losses import LOSSES, LossInputs, parse_losses

WIDTH, IDENTITIES = 16, 6


def ours(name, given, **settings):
    chosen = parse_losses({name: settings}, "losses")[name]
    return LOSSES[name].build(chosen, WIDTH, IDENTITIES)(given)


def inputs(subcentres=()):
    torch.manual_seed(0)
    return LossInputs(
        torch.randn(32, WIDTH),
        torch.arange(32) % IDENTITIES,
        centres=torch.randn(IDENTITIES, *subcentres, WIDTH),
    )


def with_centres(loss, given):
    """Their weights are [width, centres], with those of one identity adjacent."""
    with torch.no_grad():
        loss.W.copy_(given.centres.flatten(0, -2).T)
    return loss(given.embeddings, given.labels)


@pytest.mark.parametrize(
    ("name", "settings", "theirs", "their_margin"),
    [
        ("arcface", {"margin": 0.5}, "ArcFaceLoss", math.degrees(0.5)),
        ("cosface", {"margin": 0.35}, "CosFaceLoss", 0.35),
        ("subcentre", {"margin": 0.5, "subcentres": 3}, "SubCenterArcFaceLoss", math.degrees(0.5)),
    ],
)
def test_the_margin_heads(name, settings, theirs, their_margin):
    given = inputs(subcentres=(3,) if name == "subcentre" else ())
    loss = getattr(their_losses, theirs)(
        num_classes=IDENTITIES, embedding_size=WIDTH, margin=their_margin, scale=30
    )
    expected = with_centres(loss, given)
    assert ours(name, given, scale=30.0, **settings).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_sphereface_with_the_factor_of_the_paper():
    """Theirs multiplies by the norms of the embeddings, as in the paper; ours by a scale."""
    given = inputs()
    given = replace(given, embeddings=F.normalize(given.embeddings))
    loss = their_losses.SphereFaceLoss(IDENTITIES, WIDTH, margin=4, scale=30)
    assert ours("sphereface", given, margin=4.0, scale=30.0).item() == pytest.approx(
        with_centres(loss, given).item(), rel=1e-4
    )


def test_regularface():
    given = inputs()
    expected = their_regularizers.RegularFaceRegularizer()(given.centres)
    assert ours("regularface", given).item() == pytest.approx(expected.item(), rel=1e-5)
