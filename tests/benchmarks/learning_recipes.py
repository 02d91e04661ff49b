"""The students and recipes (as job specs) of `just bench-learning`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

ALONE = "arcface = { scale = 32.0, margin = 0.2 }"
ARCFACE = "arcface = { weight = 0.15, scale = 32.0, margin = 0.2 }"
"""Beside the teacher, for identities with few images; weight 1 was not compared."""
ANGULAR = "angular = { weight = 7.0 }"
STRONG_ANGULAR = "angular = { weight = 20.0 }"
ADADISTILL = "adadistill = { weight = 0.15, scale = 32.0, margin = 0.2 }"
PSEUDO_CLASSES = "pseudo_classes = {}"
RELATIONAL = "relational_distance = { weight = 25.0 }, relational_angle = { weight = 50.0 }"
MARGINS = "weight = 0.15, scale = 32.0, m1 = 1.0, m2 = 0.1, m3 = 0.1"
SEPARATED = "intra = { weight = 0.15 }, inter = { weight = 0.15 }"
SEMI_HARD = 'triplet = { weight = 1.0, mining = "semi-hard", margin = 0.2 }'
PK = 'sampler = { kind = "pk", images = 4, least_images = 2 }'
FRESH_PLAIN = 'views = "fresh"\nteacher_sees = "plain"'
CAMERA = f"""{FRESH_PLAIN}
plain = 0.25
blur = {{ share = 0.4, sigma = 3.0 }}
low_resolution = {{ share = 0.4, pixels = 14 }}"""
"""For images from poor cameras: more blur and fewer pixels than by default."""
POOR_IMAGES = f"""{CAMERA}
jpeg = {{ share = 0.4, quality = 12 }}
tone = {{ share = 0.6, brightness = 0.3, contrast = 0.5, gamma = 0.8 }}"""
"""For poor cameras, strong compression and poor light."""


@dataclass(frozen=True)
class Recipe:
    """Stages of ``EPOCHS`` (or ``HALF`` and twice ``QUARTER``) epochs, and the rest of a spec.

    A generation takes ``times`` as many epochs as the student's shortest. ``augment`` has lines of
    that table of a spec. ``begins`` is the recipe of the finished job that the student starts from.
    """

    stages: str
    generations: int = 1
    times: int = 1
    augment: str = ""
    dropout: float | None = None
    begins: str = ""
    rate: float = 0.1


def one_stage(*losses: str, epochs: str = "EPOCHS", extra: str = "") -> str:
    """All epochs with the same losses."""
    return f"[[stage]]\nepochs = {epochs}\nlosses = {{ {', '.join(losses)} }}\n{extra}\n"


def progressive() -> str:
    """The stages of the Meituan paper beside the teacher, in the paper's order.

    With four or more epochs, half of them belong to the first stage: every stage has its own
    schedule, which ends at a rate too low for learning.
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


LABELS, TEACHER, BOTH = one_stage(ALONE), one_stage(ANGULAR), one_stage(ARCFACE, ANGULAR)
MIRROR = Recipe(BOTH, times=4)
"""One schedule as long as four generations; without views, as the control of those with views."""
VIEWS = replace(MIRROR, augment="views = 16")

GENERATIONS = {
    "arcface": Recipe(LABELS),
    "both": Recipe(BOTH, generations=3),
    "angular": Recipe(TEACHER),
    "squared": Recipe(one_stage(ARCFACE, "angular_squared = { weight = 7.0 }")),
    "semi-hard": Recipe(one_stage(ARCFACE, ANGULAR, SEMI_HARD, extra=PK)),
    "progressive": Recipe(progressive(), generations=3),
    "four-generations": Recipe(BOTH, generations=4),
    "arcface-generations": Recipe(LABELS, generations=3),
    "both-2": Recipe(BOTH, times=2),
    "both-3": Recipe(BOTH, times=3),
    "arcface-3": Recipe(LABELS, times=3),
    "progressive-3": Recipe(progressive(), times=3),
}
LONGER = {
    "fresh-plain-2": Recipe(BOTH, times=2, augment=FRESH_PLAIN),
    "fresh-half-plain-2": Recipe(BOTH, times=2, augment=f"{FRESH_PLAIN}\nplain = 0.5"),
    "mirror": MIRROR,
    "mirror-weights": replace(MIRROR, stages=one_stage(ARCFACE, STRONG_ANGULAR)),
    "mirror-angular": replace(MIRROR, stages=TEACHER),
    "mirror-dropout": replace(MIRROR, dropout=0.4),
    "mirror-labels": replace(MIRROR, stages=LABELS),
    "views-4": replace(MIRROR, augment="views = 4"),
    "views-16": VIEWS,
    "views-64": replace(MIRROR, augment="views = 64"),
    "views-mix": replace(MIRROR, augment="views = 16\nmix = 0.5"),
    "views-dropout": replace(VIEWS, dropout=0.4),
    "views-weights": replace(VIEWS, stages=one_stage(ARCFACE, STRONG_ANGULAR)),
    "views-angular": replace(VIEWS, stages=TEACHER),
    "views-half-plain": replace(MIRROR, augment="views = 16\nplain = 0.5"),
    "views-labels": replace(VIEWS, stages=LABELS),
    "fresh-plain": replace(MIRROR, augment=FRESH_PLAIN),
    "fresh-half-plain": replace(MIRROR, augment=f"{FRESH_PLAIN}\nplain = 0.5"),
    "camera": replace(MIRROR, augment=CAMERA),
    "poor-images": replace(MIRROR, augment=POOR_IMAGES),
    "fresh-labels": replace(MIRROR, stages=LABELS, augment='views = "fresh"'),
    "adadistill": replace(MIRROR, stages=one_stage(ADADISTILL, ANGULAR)),
    "pseudo-classes": replace(MIRROR, stages=one_stage(PSEUDO_CLASSES)),
    "pseudo-angular": replace(MIRROR, stages=one_stage(PSEUDO_CLASSES, ANGULAR)),
    "relational": replace(MIRROR, stages=one_stage(ARCFACE, ANGULAR, RELATIONAL)),
    "mirror-long": replace(MIRROR, times=12),
    "views-long": replace(VIEWS, times=12),
    "fresh-plain-long": replace(MIRROR, times=12, augment=FRESH_PLAIN),
    "fresh-half-plain-long": replace(MIRROR, times=12, augment=f"{FRESH_PLAIN}\nplain = 0.5"),
    "views-labels-long": replace(VIEWS, times=12, stages=LABELS),
}
RECIPES = {**GENERATIONS, **LONGER}
RECIPES["continued"] = replace(
    RECIPES["fresh-half-plain"],
    stages=one_stage(ARCFACE, ANGULAR, epochs='1\nfreeze = "body"') + one_stage(ARCFACE, ANGULAR),
    times=2,
    begins="fresh-half-plain",
    rate=0.05,
)
"""A second schedule, half as long and at half of the rate, after an epoch for the class weights."""


@dataclass(frozen=True)
class Student:
    """A network at an input size, the epochs of its shortest training, and its training data.

    ``recipes`` are the names of those in its tables.
    """

    name: str
    backbone: str
    width: float
    side: int
    epochs: int
    recipes: tuple[str, ...]


PARTS = ("arcface", "both", "angular", "squared", "semi-hard", "progressive")
FULL = (
    "arcface",
    "both",
    "both-2",
    "mirror",
    "views-16",
    "fresh-plain",
    "fresh-half-plain-2",
    "fresh-half-plain",
    "views-labels",
    "continued",
)
STUDENTS = [
    Student("mobilefacenet", "mobilefacenet", 0.5, 64, 4, tuple(RECIPES)),
    Student("seesaw", "seesaw_mobi", 0.5, 64, 3, PARTS),
    Student("full-size", "mobilefacenet", 1.0, 112, 6, FULL),
]

SPEC = """\
name = "{name}"

[data]
train = "faces/train"
evaluate = ["lfw", "cfp_ff", "cfp_fp"]

[teacher]
from = "{teacher}"
preprocessing = {{ colour = "RGB", mean = 0.0, std = 1.0 }}

[student]
{network}
{dropout}
{augment}{stages}
[generations]
count = {generations}

[train]
batch_size = 32
learning_rate = {rate}
clip_gradient_norm = 5.0
seed = {seed}
evaluate_every = {evaluate_every}
"""
NETWORK = """\
backbone = "{student.backbone}"
embedding = 128
width = {student.width}
input_size = [{student.side}, {student.side}]"""
SCORED = 8
"""How often in a schedule a network is scored on the sets of pairs."""


def epochs_of(student: Student, recipe: str) -> int:
    """The epochs of one generation's schedule."""
    return student.epochs * RECIPES[recipe].times


def passes(student: Student, recipe: str, generation: int) -> int:
    """The epochs of all schedules after which the network of a generation has its weights."""
    begins = RECIPES[recipe].begins
    before = passes(student, begins, 1) if begins else 0
    return before + epochs_of(student, recipe) * generation


def spec(student: Student, recipe: str, seed: int, teacher: str, steps_an_epoch: int) -> str:
    """The job of one student, recipe and seed."""
    chosen, epochs = RECIPES[recipe], epochs_of(student, recipe)
    quarter = max(1, epochs // 4)
    stages = chosen.stages
    shares = {"EPOCHS": epochs, "QUARTER": quarter, "HALF": epochs - 2 * quarter}
    for share, count in shares.items():
        stages = stages.replace(f"epochs = {share}", f"epochs = {count}")
    network = NETWORK.format(student=student)
    if chosen.begins:
        network = f'from = "{job_name(student, chosen.begins, seed)}"'
    return SPEC.format(
        name=job_name(student, recipe, seed),
        teacher=teacher,
        network=network,
        dropout="" if chosen.dropout is None else f"dropout = {chosen.dropout}\n",
        augment=f"[augment]\n{chosen.augment}\n\n" if chosen.augment else "",
        stages=stages,
        generations=chosen.generations,
        seed=seed,
        rate=chosen.rate,
        evaluate_every=max(1, epochs // SCORED) * steps_an_epoch,
    )


def chains(recipes: Sequence[str]) -> list[list[str]]:
    """Recipes grouped into chains: each needs the one before it, or reuses its steps.

    The recipes of a chain differ only in the number of generations, or begin where one of them
    ended.
    """
    alike: dict[Recipe, list[str]] = {}
    for recipe in sorted(recipes, key=lambda name: (RECIPES[name].begins, _generations(name))):
        first = RECIPES[RECIPES[recipe].begins or recipe]
        alike.setdefault(replace(first, generations=1), []).append(recipe)
    return list(alike.values())


def _generations(recipe: str) -> int:
    return RECIPES[recipe].generations


def job_name(student: Student, recipe: str, seed: int) -> str:
    return f"{student.name}-{recipe}-{seed}"
