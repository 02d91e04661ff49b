"""Each loss in one line of a user's own loop, as in a stage; and the content of its docstring."""

import doctest
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import distill.losses
from curation.errors import UserError
from distill.losses import (
    LOSSES,
    AdaDistill,
    Angular,
    ArcFace,
    Center,
    ComparisonSettings,
    Inter,
    LossInputs,
    MarginDistillation,
    Subcentre,
    TeacherLogits,
    Triplet,
    WeightedLosses,
)
from distill.losses.settings import ArcFaceSettings, CosFaceSettings

BATCH, WIDTH, TEACHER_WIDTH, IDENTITIES = 12, 8, 10, 5
NAMES = sorted(LOSSES)
COMPARING = [name for name in NAMES if issubclass(LOSSES[name].settings, ComparisonSettings)]


def batch(teacher_width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    embeddings = torch.randn(BATCH, WIDTH, requires_grad=True)
    return embeddings, torch.arange(BATCH) % (IDENTITIES - 1), torch.randn(BATCH, teacher_width)


def centres(width: int = WIDTH) -> Tensor:
    return torch.randn(IDENTITIES, width, generator=torch.Generator().manual_seed(2))


def alone(name: str, teacher_width: int = WIDTH, **given):
    """A loss with what it needs, in the same random state as ``in_training``."""
    if LOSSES[name].settings.needs_teacher_centres:
        given["teacher_centres"] = centres(teacher_width)
    torch.manual_seed(0)
    return LOSSES[name].loss(identities=IDENTITIES, embedding=WIDTH, **given)


def in_training(name: str, loss, teacher_width: int | None = None) -> WeightedLosses:
    """The sum of this loss alone, as in a stage, with the same weights."""
    torch.manual_seed(0)
    losses = WeightedLosses(
        {name: loss.settings}, WIDTH, IDENTITIES, loss.identity_counts, teacher_width
    )
    losses.teacher_centres = loss.teacher_centres
    with torch.no_grad():
        if loss.class_weights is not None:
            losses.centres.copy_(loss.class_weights)
        if loss.projection is not None:
            losses.projections[name].weight.copy_(loss.projection.weight)
    own = {"class_weights", "projection.weight"}
    state = {key: value for key, value in loss.state_dict().items() if key not in own}
    losses.parts[name].load_state_dict(state)
    return losses


def gradients(total: Tensor, embeddings: Tensor, module) -> list[Tensor]:
    leaves = [embeddings, *module.parameters()]
    return torch.autograd.grad(total, leaves, allow_unused=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_alone_is_that_of_a_training(name):
    loss = alone(name)
    losses = in_training(name, loss)
    embeddings, labels, teacher = batch()
    torch.manual_seed(3)
    found = loss(embeddings, labels, teacher=teacher)
    torch.manual_seed(3)
    expected = losses(LossInputs(embeddings, labels, teacher))["total"]
    assert found.shape == ()
    assert found.isfinite()
    assert found == expected
    ours = gradients(found, embeddings, loss)
    theirs = gradients(expected, embeddings, losses)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    reached = [each for each in ours if each is not None]
    assert all(each.isfinite().all() and each.abs().sum() > 0 for each in reached)
    only_weights = name in {"inter", "regularface", "uniformface"}
    assert (ours[0] is None) == only_weights
    assert all(each is not None for each in ours[1:])


@pytest.mark.parametrize("name", COMPARING)
def test_a_student_of_another_width_is_mapped_to_the_teachers(name):
    loss = alone(name, TEACHER_WIDTH, project=True, teacher_embedding=TEACHER_WIDTH)
    losses = in_training(name, loss, TEACHER_WIDTH)
    embeddings, labels, teacher = batch(TEACHER_WIDTH)
    found = loss(embeddings, labels, teacher)
    assert found == losses(LossInputs(embeddings, labels, teacher))["total"]
    found.backward()
    assert loss.projection.weight.grad.abs().sum() > 0


def test_class_balance_takes_the_counts_by_name():
    counts = torch.tensor([1, 2, 3, 4, 500])
    loss = alone("arcface", class_balance=0.99, identity_counts=counts)
    embeddings, labels, _ = batch()
    expected = in_training("arcface", loss)(LossInputs(embeddings, labels))["total"]
    assert loss(embeddings, labels) == expected
    assert loss(embeddings, labels) < alone("arcface")(embeddings, labels)


def test_the_weight_multiplies_what_the_formula_gives():
    embeddings, _, teacher = batch()
    expected = 2 * (1 - F.cosine_similarity(embeddings, teacher)).mean()
    torch.testing.assert_close(Angular(weight=1.0)(embeddings, teacher=teacher), expected)
    torch.testing.assert_close(Angular()(embeddings, teacher=teacher), 7 * expected)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_autocast_give_a_float32(name):
    loss = alone(name)
    embeddings, labels, teacher = batch()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(embeddings.bfloat16(), labels, teacher.half())
    assert found.dtype == torch.float32
    assert found.isfinite()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_loss_may_be_of_another_precision(name, dtype):
    embeddings, labels, teacher = batch()
    torch.manual_seed(3)
    expected = alone(name)(embeddings, labels, teacher)
    torch.manual_seed(3)
    found = alone(name).to(dtype)(embeddings.to(dtype), labels, teacher.to(dtype))
    tolerance = 1e-4 if dtype == torch.float64 else 0.2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_minimising_a_head_alone_tells_identities_apart():
    torch.manual_seed(0)
    embeddings = torch.randn(20, WIDTH, requires_grad=True)
    labels, loss = torch.arange(20) % IDENTITIES, ArcFace(identities=IDENTITIES, embedding=WIDTH)
    optimiser = torch.optim.Adam([embeddings, *loss.parameters()], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(embeddings, labels).backward()
        optimiser.step()
    assert (F.linear(embeddings, F.normalize(loss.class_weights)).argmax(dim=1) == labels).all()


def test_its_state_is_saved_and_loaded():
    embeddings, labels, _ = batch()
    first = alone("curricularface")
    first(embeddings, labels)
    second = LOSSES["curricularface"].loss(identities=IDENTITIES, embedding=WIDTH)
    second.load_state_dict(first.state_dict())
    assert set(first.state_dict()) == {"class_weights", "t"}
    assert first.eval()(embeddings, labels) == second.eval()(embeddings, labels)


def test_in_a_stage_it_owns_no_weights():
    stage = LOSSES["arcface"].build(ArcFaceSettings(), WIDTH, IDENTITIES)
    assert not list(stage.parameters())


def test_settings_may_be_an_object():
    loss = ArcFace(ArcFaceSettings(margin=0.3), identities=IDENTITIES, embedding=WIDTH)
    assert loss.settings.margin == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ArcFace(),
            r"ArcFace: identities = None, but it must be a whole number of at "
            r"least 1",
        ),
        (lambda: ArcFace(identities=5), "ArcFace: embedding = None"),
        (
            lambda: ArcFace(identities=1, embedding=8),
            "identities = 1, but it must be a whole number of at least 2",
        ),
        (lambda: ArcFace(identities=2.5, embedding=8), r"identities = 2\.5"),
        (lambda: ArcFace(identities=True, embedding=8), "identities = True"),
        (lambda: ArcFace(identities="5", embedding=8), "identities = '5'"),
        (
            lambda: ArcFace(identities=5, embedding=0),
            "embedding = 0, but it must be a whole number of at least 1",
        ),
        (lambda: ArcFace(identities=5, embedding=8, margin=28.6), r"margin = 28\.6: .*below"),
        (lambda: ArcFace(identities=5, embedding=8, margin="a"), "margin = 'a': .*number"),
        (
            lambda: ArcFace(identities=5, embedding=8, weight=-1.0),
            r"weight = -1\.0: must be above 0",
        ),
        (lambda: ArcFace(identities=5, embedding=8, margn=0.4), "did you mean 'margin'"),
        (lambda: ArcFace(CosFaceSettings()), "takes ArcFaceSettings.* not CosFaceSettings"),
        (lambda: ArcFace(ArcFaceSettings(), margin=0.3), "not margin beside settings"),
        (lambda: ArcFace(identities=5, embedding=8, class_balance=0.9), "identity_counts is miss"),
        (
            lambda: ArcFace(identities=5, embedding=8, identity_counts=torch.ones(5)),
            "identity_counts has no effect",
        ),
        (
            lambda: ArcFace(
                identities=5, embedding=8, class_balance=0.9, identity_counts=torch.ones(4)
            ),
            r"identity_counts: float32 \[4\]; whole numbers \[5\]",
        ),
        (lambda: Angular(teacher_embedding=8), "teacher_embedding has no effect"),
        (lambda: Angular(project=True), "embedding = None"),
        (lambda: Angular(embedding="8"), "embedding = '8'"),
        (lambda: Center(embedding=8), "Center: identities = None"),
        (lambda: AdaDistill(identities=5), "AdaDistill: embedding = None"),
        (lambda: MarginDistillation(), "teacher_centres is missing"),
        (lambda: TeacherLogits(teacher_centres=[1, 2]), r"teacher_centres: list \[1, 2\]; a tens"),
        (
            lambda: TeacherLogits(identities=4, teacher_centres=torch.ones(5, 8)),
            r"teacher_centres: float32 \[5, 8\]; a tensor of floats \[4, D\]",
        ),
        (
            lambda: TeacherLogits(embedding=9, teacher_centres=torch.ones(5, 8)),
            r"teacher_centres: float32 \[5, 8\]; a tensor of floats \[B, 9\]",
        ),
        (lambda: Angular(teacher_centres=torch.ones(5, 8)), "teacher_centres has no effect"),
        (lambda: Triplet(margin=math.inf), "margin = inf: .*finite"),
        (lambda: Triplet(weight=math.nan), "weight = nan: "),
        (lambda: Triplet(mining="easy"), "mining = 'easy': .*'semi-hard'"),
        (lambda: Inter(identities=5, embedding=8, classes=0), "classes = 0: must be at least 1"),
        (lambda: Subcentre(identities=5, embedding=8, subcentres=1), "subcentres = 1: "),
    ],
)
def test_a_wrong_argument_is_one_clear_line(make, message):
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"embeddings": torch.ones(3, 9)}, r"embeddings: float32 \[3, 9\]; .* \[B, 8\]"),
        ({"embeddings": torch.ones(8)}, r"embeddings: float32 \[8\]; .* \[B, 8\]"),
        ({"embeddings": torch.ones(0, 8)}, r"embeddings: float32 \[0, 8\]"),
        ({"embeddings": torch.ones(3, 8).int()}, r"embeddings: int32 \[3, 8\]"),
        ({"embeddings": [[1.0] * 8]}, "embeddings: list"),
        ({"labels": None}, "labels: NoneType"),
        ({"labels": torch.ones(3)}, r"labels: float32 \[3\]; whole numbers \[3\]"),
        ({"labels": torch.tensor([0, 1])}, r"labels: int64 \[2\]; whole numbers \[3\]"),
        ({"labels": torch.tensor([[0], [1], [2]])}, r"labels: int64 \[3, 1\]"),
        ({"labels": torch.tensor([0, 1, 5])}, "labels: 0 to 5; 0 to 4 are allowed"),
        ({"labels": torch.tensor([0, -1, 4])}, "labels: -1 to 4; 0 to 4 are allowed"),
        ({"teacher": None}, "teacher: NoneType"),
        ({"teacher": torch.ones(2, 8)}, r"teacher: float32 \[2, 8\]; .* \[3, D\]"),
        ({"teacher": torch.ones(3, 9)}, r"teacher_embedding=9"),
    ],
)
def test_a_batch_that_does_not_fit_is_one_clear_line(given, message):
    loss = AdaDistill(identities=5, embedding=8)
    fitting = {
        "embeddings": torch.ones(3, 8),
        "labels": torch.tensor([0, 1, 4]),
        "teacher": torch.ones(3, 8),
    }
    assert loss(**fitting).isfinite()
    with pytest.raises(UserError, match=message):
        loss(**{**fitting, **given})


def test_embeddings_have_the_width_of_the_teachers_centres():
    loss = TeacherLogits(teacher_centres=torch.ones(5, 8))
    with pytest.raises(UserError, match=r"embeddings: float32 \[4, 9\]; .* \[B, 8\]"):
        loss(torch.ones(4, 9), teacher=torch.ones(4, 9))


def test_labels_may_be_omitted_if_the_loss_needs_none():
    embeddings, _, teacher = batch()
    assert Angular()(embeddings, teacher=teacher).isfinite()
    assert Inter(identities=5, embedding=WIDTH)(embeddings).isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_has_formula_arguments_and_an_example(name):
    loss = LOSSES[name].loss
    text = inspect.getdoc(loss)
    formula, rest = text.split("\nArgs:\n")
    arguments, example = rest.split("\nExample:\n")
    assert "::\n\n    " in formula
    named = {
        word.strip()
        for line in arguments.splitlines()
        if line.startswith("    ") and not line.startswith("     ")
        for word in line.split(":")[0].split(",")
    }
    assert set(LOSSES[name].settings.model_fields) <= named
    if LOSSES[name].settings.needs_centres:
        assert {"identities", "embedding"} <= named
    scope = {"torch": torch, loss.__name__: getattr(distill.losses, loss.__name__)}
    test = doctest.DocTestParser().get_doctest(example, scope, name, None, 0)
    assert f"{loss.__name__}(" in test.examples[0].source
    assert doctest.DocTestRunner().run(test).failed == 0
