"""With mixed images, label losses equal those of the other images."""

from dataclasses import replace

import pytest
import torch

from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.losses.loss import LOSSES
from distill.losses.settings import import_all

IMAGES, WIDTH, IDENTITIES = 12, 8, 5
import_all()
OF_LABELS = sorted(name for name, entry in LOSSES.items() if entry.settings.leaves_out_mixed)
OTHERS = sorted(
    name
    for name, entry in LOSSES.items()
    if entry.settings.needs_teacher and not entry.settings.needs_labels
)
MIXED = torch.tensor([1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], dtype=torch.bool)


def inputs(seed=0):
    torch.manual_seed(seed)
    return LossInputs(
        embeddings=torch.randn(IMAGES, WIDTH),
        labels=torch.arange(IMAGES) % 4,
        teacher=torch.nn.functional.normalize(torch.randn(IMAGES, WIDTH)),
    )


def losses_of(name):
    torch.manual_seed(5)
    losses = WeightedLosses(
        parse_losses({name: {}}, "losses"), WIDTH, IDENTITIES, torch.arange(1, IDENTITIES + 1)
    )
    if losses.needs_teacher_centres:
        losses.teacher_centres = torch.nn.functional.normalize(torch.randn(IDENTITIES, WIDTH))
    return losses.train()


def test_every_loss_of_labels_leaves_mixed_images_out():
    needing = {name for name, entry in LOSSES.items() if entry.settings.needs_labels}
    assert needing == set(OF_LABELS)


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_loss_of_labels_is_that_of_the_others(name):
    whole, kept = inputs(), ~MIXED
    embeddings = whole.embeddings.requires_grad_()
    weights = kept.float() * IMAGES / kept.sum()
    marked, selected = losses_of(name), losses_of(name)
    torch.manual_seed(9)
    found = marked(replace(whole, label_weights=weights))["total"]
    torch.manual_seed(9)
    few = LossInputs(whole.embeddings[kept], whole.labels[kept], whole.teacher[kept])
    expected = selected(few)["total"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)
    (gradient,) = torch.autograd.grad(found, embeddings, retain_graph=True)
    assert not gradient[MIXED].any()
    # The state kept between steps has seen the same images.
    for left, right in zip(marked.buffers(), selected.buffers(), strict=True):
        assert torch.allclose(left.float(), right.float(), atol=1e-6)


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_batch_of_mixed_images_alone_teaches_no_label(name):
    whole = inputs()
    embeddings = whole.embeddings.requires_grad_()
    loss = losses_of(name)(replace(whole, label_weights=torch.zeros(IMAGES)))["total"]
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, embeddings, allow_unused=True)
    assert gradient is None or not gradient.any()


@pytest.mark.parametrize("name", OTHERS)
def test_a_loss_of_the_teacher_alone_counts_them(name):
    whole = inputs()
    embeddings = whole.embeddings.requires_grad_()
    weights = (~MIXED).float()
    loss = losses_of(name)(replace(whole, label_weights=weights))["total"]
    assert loss.item() == losses_of(name)(whole)["total"].item()
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert gradient[MIXED].any()
