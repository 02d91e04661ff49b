"""Margin heads compared with loops over rows and classes, with every margin by its formula."""

import math

import pytest
import torch
from slow_math import cosine, mean, softmax

from distill.losses import LOSSES, LossInputs, parse_losses
from distill.losses.adaface import adaptive_margin
from distill.losses.arcface import angular_margin
from distill.losses.combined import combined_margin
from distill.losses.head import angles, balanced_weights
from distill.losses.li_arcface import linear_in_angle
from distill.losses.settings import HeadSettings
from distill.losses.sphereface import falling_cosine

BATCH, WIDTH, IDENTITIES = 12, 5, 4
HEAD_NAMES = sorted(
    name for name, entry in LOSSES.items() if issubclass(entry.settings, HeadSettings)
)


def head(name, **settings):
    """A head as in a job spec, in training mode."""
    chosen = parse_losses({name: settings}, "losses")[name]
    return LOSSES[name].build(chosen, WIDTH, IDENTITIES)


def inputs(dtype=torch.float32, subcentres=()):
    """Random embeddings, but the first three at, nearly opposite and opposite a centre."""
    torch.manual_seed(1)
    centres = torch.randn(IDENTITIES, *subcentres, WIDTH)
    embeddings, labels = 3 * torch.randn(BATCH, WIDTH), torch.arange(BATCH) % IDENTITIES
    if not subcentres:
        embeddings[0], embeddings[2] = centres[0], -centres[2]
        embeddings[1] = -2 * centres[1] + 0.2 * torch.randn(WIDTH)
    counts = torch.tensor([1, 3, 50, 2000])
    return LossInputs(embeddings.to(dtype), labels, centres=centres, identity_counts=counts)


def falling(angle):
    """The cosine up to pi; then SphereFace's psi, by its definition."""
    k = next(k for k in range(6) if angle <= (k + 1) * math.pi)
    return (-1) ** k * math.cos(angle) - 2 * k


def arc(angle, margin):
    if angle + margin < math.pi:
        return math.cos(angle + margin)
    return math.cos(angle) - margin * math.sin(margin)


def plain(cosine, true):
    return cosine


def supported(t):
    return lambda cosine, true: t * cosine + t - 1 if cosine > true else cosine


def linear(angle):
    return (math.pi - 2 * angle) / math.pi


HEADS = [
    # head, settings, replacement for the true cosine (by its angle), and for another cosine
    ("softmax", {}, math.cos, plain),
    ("arcface", {"margin": 0.5}, lambda angle: arc(angle, 0.5), plain),
    ("cosface", {"margin": 0.35}, lambda angle: math.cos(angle) - 0.35, plain),
    ("sphereface", {"margin": 1.35}, lambda angle: falling(1.35 * angle), plain),
    ("sphereface", {"margin": 4.0}, lambda angle: falling(4 * angle), plain),
    ("combined", {}, lambda angle: arc(angle, 0.3) - 0.2, plain),
    (
        "combined",
        {"m1": 1.2, "m2": 0.4, "m3": 0.1},
        lambda angle: falling(1.2 * angle + 0.4) - 0.1,
        plain,
    ),
    ("sv", {"t": 1.2}, lambda angle: arc(angle, 0.3) - 0.2, supported(1.2)),
    ("sv", {"m2": 0.0, "m3": 0.35, "t": 1.4}, lambda a: math.cos(a) - 0.35, supported(1.4)),
    (
        "li_arcface",
        {"margin": 0.45},
        lambda angle: linear(angle + 0.45),
        lambda cosine, true: linear(math.acos(cosine)),
    ),
]


def slow_loss(given, scale, of_true, of_other, weights=None):
    losses = []
    for embedding, label in zip(given.embeddings.tolist(), given.labels.tolist(), strict=True):
        cosines = [
            max(-1.0, min(1.0, cosine(embedding, centre))) for centre in given.centres.tolist()
        ]
        true = of_true(math.acos(cosines[label]))
        logits = [scale * of_other(value, true) for value in cosines]
        logits[label] = scale * true
        highest = max(logits)
        logs = math.log(sum(math.exp(logit - highest) for logit in logits)) + highest
        losses.append((logs - logits[label]) * (weights[label] if weights else 1))
    return mean(losses)


@pytest.mark.parametrize(("name", "settings", "of_true", "of_other"), HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [64.0, 4.0])
def test_a_head_is_the_softmax_of_its_formula(name, settings, of_true, of_other, dtype, scale):
    given = inputs(dtype)
    expected = slow_loss(given, scale, of_true, of_other)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = head(name, scale=scale, **settings)(given)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "margin",
    [
        lambda cosines: angular_margin(cosines, torch.full_like(cosines, 0.5)),
        lambda cosines: angular_margin(cosines, torch.full_like(cosines, 1.5)),
        lambda cosines: falling_cosine(1.35 * angles(cosines)),
        lambda cosines: falling_cosine(4 * angles(cosines)),
        lambda cosines: combined_margin(cosines, 1.0, 0.3, 0.2),
        lambda cosines: combined_margin(cosines, 2.5, 1.5, 0.9),
        lambda cosines: linear_in_angle(cosines),
        lambda cosines: adaptive_margin(cosines, torch.full_like(cosines, -1.0), 0.4),
        lambda cosines: adaptive_margin(cosines, torch.full_like(cosines, 1.0), 0.4),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_target_logit_never_rises_with_the_angle(margin, dtype):
    cosines = torch.linspace(0, math.pi, 2001, dtype=torch.float64).cos().to(dtype)
    with_margin = margin(cosines)
    assert (with_margin.diff() < 1e-6).all()
    assert with_margin[0] > with_margin[1000] > with_margin[1800]


@pytest.mark.parametrize(
    ("one", "settings", "other", "same"),
    [
        ("arcface", {"margin": 0.5}, "combined", {"m1": 1.0, "m2": 0.5, "m3": 0.0}),
        ("cosface", {"margin": 0.4}, "combined", {"m1": 1.0, "m2": 0.0, "m3": 0.4}),
        ("sphereface", {"margin": 1.5}, "combined", {"m1": 1.5, "m2": 0.0, "m3": 0.0}),
        ("softmax", {}, "arcface", {"margin": 0.0}),
        ("softmax", {}, "sphereface", {"margin": 1.0}),
        ("combined", {}, "sv", {"t": 1.0}),
        ("arcface", {}, "subcentre", {}),
    ],
)
def test_heads_that_are_special_cases_of_others(one, settings, other, same):
    given = inputs()
    assert head(other, **same)(given).item() == pytest.approx(
        head(one, **settings)(given).item(), rel=1e-5
    )


def test_each_margin_of_combined_makes_the_loss_larger():
    margins = {"m1": 1.0, "m2": 0.1, "m3": 0.1}
    least = head("combined", **margins)(inputs())
    for name, value in {"m1": 1.1, "m2": 0.2, "m3": 0.2}.items():
        assert head("combined", **{**margins, name: value})(inputs()) > least + 1


def test_easy_identities_stay_in_the_softmax_of_support_vectors():
    """As printed, Eq. 6 of the Meituan paper would give them weight 0, and a loss of 0."""
    centres = torch.eye(3, 5)
    given = LossInputs(centres[:1] + 0.1, torch.tensor([0]), centres=centres)
    loss = head("sv", scale=4.0)(given)
    assert loss.item() == pytest.approx(head("combined", scale=4.0)(given).item())
    assert loss > 0.01


@pytest.mark.parametrize("name", ["arcface", "sv", "adaface", "li_arcface"])
def test_class_balance_weighs_images_by_their_identitys_number(name):
    """Eq. 9 of the Meituan paper, one image at a time."""
    given, beta = inputs(), 0.999
    expected = []
    for row in range(BATCH):
        label = given.labels[row : row + 1]
        # Not in training mode, in which some heads update their state.
        one = LossInputs(given.embeddings[row : row + 1], label, centres=given.centres)
        n = given.identity_counts[label].item()
        weight = (1 - beta) / (1 - beta**n)
        expected.append(weight * head(name).eval()(one).item())
    found = head(name, class_balance=beta).eval()(given)
    assert found.item() == pytest.approx(mean(expected), rel=1e-5)


def test_the_weights_of_class_balance_by_hand():
    counts = torch.tensor([1, 10, 10**7])
    assert balanced_weights(counts, 1e-6).tolist() == pytest.approx([1, 1, 1], rel=1e-5)
    assert balanced_weights(counts[:2], 1 - 1e-9).tolist() == pytest.approx([1, 0.1], rel=1e-5)
    assert balanced_weights(counts, 0.9999)[2].item() == pytest.approx(1e-4, rel=1e-5)


@pytest.mark.parametrize(("name", "settings", "of_true", "of_other"), HEADS)
@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_filtered_negatives_count_as_unrelated(name, settings, of_true, of_other, threshold):
    """Partial FC's abnormal negatives, one logit at a time; the true identity never is one."""
    given = inputs()

    def of_kept(cosine, true):
        return of_other(0.0 if cosine > threshold else cosine, true)

    expected = slow_loss(given, 16.0, of_true, of_kept)
    found = head(name, scale=16.0, filter_above=threshold, **settings)(given)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(slow_loss(given, 16.0, of_true, of_other), rel=1e-4)


def test_nothing_pushes_a_filtered_negative_away():
    centres = torch.eye(3, requires_grad=True)
    embedding = torch.tensor([[0.8, 0.6, 0.0]], requires_grad=True)
    loss = head("arcface", scale=8.0, filter_above=0.5)
    loss(LossInputs(embedding, torch.tensor([0]), centres=centres)).backward()
    assert centres.grad[1].abs().max() == 0
    assert centres.grad[2].abs().max() > 0
    assert centres.grad[0].abs().max() > 0


# No gradient flows through AdaFace's norms: see its own test.
@pytest.mark.parametrize("name", sorted(set(HEAD_NAMES) - {"adaface"}))
@pytest.mark.parametrize("balance", [None, 0.99])
def test_heads_have_the_gradient_of_their_value(name, balance):
    """In float64, away from the limits; in evaluation, where statistics are fixed."""
    torch.manual_seed(0)
    embeddings = torch.randn(6, WIDTH, dtype=torch.float64, requires_grad=True)
    shape = (IDENTITIES, 3, WIDTH) if name == "subcentre" else (IDENTITIES, WIDTH)
    centres = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    labels, counts = torch.arange(6) % IDENTITIES, torch.arange(1, IDENTITIES + 1)
    settings = {} if balance is None else {"class_balance": balance}
    loss = head(name, scale=8.0, **settings).double().eval()

    def value(embeddings, centres):
        given = LossInputs(embeddings, labels, centres=centres, identity_counts=counts)
        return loss(given)

    assert torch.autograd.gradcheck(value, (embeddings, centres), rtol=1e-3)


@pytest.mark.parametrize("name", HEAD_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_heads_are_finite_at_the_ends(name, dtype):
    centres = torch.eye(2, 3)
    ends = torch.cat([centres, -centres, centres[:1].expand(3, 3), torch.zeros(1, 3)])
    for embeddings, some in ((ends, centres), (ends, centres[:1])):
        embeddings = embeddings.to(dtype).requires_grad_()
        some = some.clone().requires_grad_()
        labels = torch.arange(len(ends)) % len(some)
        value = head(name)(LossInputs(embeddings, labels, centres=some))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(embeddings.grad).all()
        assert torch.isfinite(some.grad).all()


def test_the_nearest_subcentre_of_each_identity_counts():
    given = inputs(subcentres=(3,))
    expected = []
    for embedding, label in zip(given.embeddings.tolist(), given.labels.tolist(), strict=True):
        logits = [max(cosine(embedding, each) for each in own) for own in given.centres.tolist()]
        logits[label] = arc(math.acos(logits[label]), 0.5)
        expected.append(-math.log(softmax([8 * logit for logit in logits])[label]))
    loss = head("subcentre", scale=8.0)(given)
    assert loss.item() == pytest.approx(mean(expected), rel=1e-5)


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_minimising_a_head_moves_embeddings_to_their_centres(name):
    torch.manual_seed(0)
    points, centres = torch.randn(9, WIDTH, requires_grad=True), torch.eye(IDENTITIES, WIDTH)
    labels, loss = torch.arange(9) % IDENTITIES, head(name)
    optimiser = torch.optim.Adam([points], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        given = LossInputs(points, labels, centres=centres)
        loss(given).backward()
        optimiser.step()
    assert (given.cosines.argmax(dim=1) == labels).all()
