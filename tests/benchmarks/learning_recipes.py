"""What `just bench-learning` compares: students, recipes as job specs, rows of its table."""

from collections.abc import Sequence
from dataclasses import dataclass

ARCFACE = "arcface = { weight = 0.15, scale = 32.0, margin = 0.2 }"
"""Beside the teacher. At weight 1 it drowns the teacher where an identity has few images."""
ANGULAR = "angular = { weight = 7.0 }"
MARGINS = "weight = 0.15, scale = 32.0, m1 = 1.0, m2 = 0.1, m3 = 0.1"
SEPARATED = "intra = { weight = 0.15 }, inter = { weight = 0.15 }"
SEMI_HARD = 'triplet = { weight = 1.0, mining = "semi-hard", margin = 0.2 }'
PK = 'sampler = { kind = "pk", images = 4, least_images = 2 }'


@dataclass(frozen=True)
class Student:
    """A network at an input size, how long and how often it is trained, and on which rows.

    ``recipes`` are those to train, ``once`` those of them that only the first seed trains;
    ``curves``: the first seed is scored on the sets of pairs every second epoch.
    """

    name: str
    backbone: str
    width: float
    side: int
    epochs: int
    seeds: tuple[int, ...]
    recipes: tuple[str, ...]
    once: tuple[str, ...] = ()
    curves: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: a recipe's network after so many generations."""

    title: str
    recipe: str
    generation: int


def one_stage(*losses: str, extra: str = "") -> str:
    """All epochs with the same losses."""
    return f"[[stage]]\nepochs = EPOCHS\nlosses = {{ {', '.join(losses)} }}\n{extra}\n"


def progressive() -> str:
    """The stages of the Meituan paper beside the teacher, in the paper's order.

    Half of the epochs belong to the first stage, where there are four or more: every stage has a
    schedule of its own, which ends at a rate that learns nothing more.
    """
    combined, balanced = f"combined = {{ {MARGINS} }}", f"sv = {{ {MARGINS}, class_balance = 0.9 }}"
    stages = [
        ("HALF", (ARCFACE,), 0.1, ""),
        ("QUARTER", (combined, SEPARATED), 0.05, ""),
        ("QUARTER", (balanced, SEPARATED, SEMI_HARD), 0.02, PK),
    ]
    return "".join(
        f"[[stage]]\nepochs = {epochs}\nlearning_rate = {rate}\n"
        f"losses = {{ {', '.join((*losses, ANGULAR))} }}\n{extra}\n"
        for epochs, losses, rate, extra in stages
    )


RECIPES = {
    "arcface": (one_stage("arcface = { scale = 32.0, margin = 0.2 }"), 1),
    "both": (one_stage(ARCFACE, ANGULAR), 3),
    "angular": (one_stage(ANGULAR), 1),
    "squared": (one_stage(ARCFACE, "angular_squared = { weight = 7.0 }"), 1),
    "semi-hard": (one_stage(ARCFACE, ANGULAR, SEMI_HARD, extra=PK), 1),
    "progressive": (progressive(), 3),
    "four-generations": (one_stage(ARCFACE, ANGULAR), 4),
    "arcface-generations": (one_stage("arcface = { scale = 32.0, margin = 0.2 }"), 3),
}
"""Stages, and how many generations."""
ONCE = ("four-generations", "arcface-generations")
PARTS = ("arcface", "both", "angular", "squared", "semi-hard", "progressive")

ROWS = [
    Row("ArcFace alone", "arcface", 1),
    Row("ArcFace + angular (Eq. 5, α = 7)", "both", 1),
    Row("angular alone, no labels", "angular", 1),
    Row("ArcFace + Eq. 4 instead of Eq. 5", "squared", 1),
    Row("ArcFace + angular, generation 2", "both", 2),
    Row("ArcFace + angular, generation 3", "both", 3),
    Row("ArcFace + angular, generation 4", "four-generations", 4),
    Row("ArcFace + angular + PK + semi-hard", "semi-hard", 1),
    Row("progressive stages", "progressive", 1),
    Row("all together: progressive, generation 3", "progressive", 3),
    Row("ArcFace alone, generation 3: as many epochs", "arcface-generations", 3),
]

STUDENTS = [
    Student(
        "mobilefacenet", "mobilefacenet", 0.5, 64, 4, (0, 1, 2), tuple(RECIPES), ONCE, curves=True
    ),
    Student("seesaw", "seesaw_mobi", 0.5, 64, 3, (0,), PARTS),
    Student("full-size", "mobilefacenet", 1.0, 112, 3, (0,), ("both", "arcface")),
]

SPEC = """\
name = "{name}"

[data]
train = "faces/train"
evaluate = {evaluate}

[teacher]
from = "{teacher}"
preprocessing = {{ colour = "RGB", mean = 0.0, std = 1.0 }}

[student]
backbone = "{backbone}"
embedding = 128
width = {width}
input_size = [{side}, {side}]

{stages}
[generations]
count = {generations}

[train]
batch_size = 32
learning_rate = 0.1
clip_gradient_norm = 5.0
seed = {seed}
{intervals}"""


def spec(student: Student, recipe: str, seed: int, teacher: str, steps_an_epoch: int) -> str:
    """The job of one student, recipe and seed."""
    stages, generations = RECIPES[recipe]
    quarter = max(1, student.epochs // 4)
    shares = {"EPOCHS": student.epochs, "QUARTER": quarter, "HALF": student.epochs - 2 * quarter}
    for share, epochs in shares.items():
        stages = stages.replace(f"epochs = {share}", f"epochs = {epochs}")
    curves = student.curves and seed == student.seeds[0]
    return SPEC.format(
        name=job_name(student, recipe, seed),
        evaluate='["lfw", "cfp_ff", "cfp_fp"]' if curves else "[]",
        teacher=teacher,
        backbone=student.backbone,
        width=student.width,
        side=student.side,
        stages=stages,
        generations=generations,
        seed=seed,
        intervals=f"evaluate_every = {2 * steps_an_epoch}\n" if curves else "",
    )


def chains(recipes: Sequence[str]) -> list[list[str]]:
    """Recipes by what they share: those of a chain differ only in how many generations they go on.

    The shorter come first; the others find their steps trained.
    """
    alike: dict[str, list[str]] = {}
    for recipe in sorted(recipes, key=lambda recipe: RECIPES[recipe][1]):
        alike.setdefault(RECIPES[recipe][0], []).append(recipe)
    return list(alike.values())


def job_name(student: Student, recipe: str, seed: int) -> str:
    return f"{student.name}-{recipe}-{seed}"
