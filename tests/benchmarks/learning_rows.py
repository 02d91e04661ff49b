"""The tables of `just bench-learning`: questions, and the trainings that answer them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A recipe's network after a number of generations.

    It is compared with the network of the recipe ``against``, which is trained for as long.
    """

    title: str
    recipe: str
    generation: int = 1
    against: str = ""


@dataclass(frozen=True)
class Section:
    """A question. ``degraded``: its networks are also scored on degraded pairs."""

    question: str
    rows: tuple[Row, ...]
    degraded: bool = False


SECTIONS = (
    Section(
        "What does a teacher bring?",
        (
            Row("ArcFace alone", "arcface"),
            Row("ArcFace + angular (Eq. 5, α = 7)", "both", against="arcface"),
            Row("angular alone, no labels", "angular", against="arcface"),
            Row("ArcFace + Eq. 4 instead of Eq. 5", "squared", against="both"),
        ),
    ),
    Section(
        "Generations, or one schedule of the same length?",
        (
            Row("ArcFace + angular, generation 2", "both", 2, against="both-2"),
            Row("ArcFace + angular, one schedule", "both-2"),
            Row("ArcFace + angular, generation 3", "both", 3, against="both-3"),
            Row("ArcFace + angular, one schedule", "both-3"),
            Row("ArcFace + angular, generation 4", "four-generations", 4, against="mirror"),
            Row("ArcFace + angular, one schedule", "mirror"),
            Row("ArcFace alone, generation 3", "arcface-generations", 3, against="arcface-3"),
            Row("ArcFace alone, one schedule", "arcface-3"),
        ),
    ),
    Section(
        "Stages and triplets",
        (
            Row("ArcFace + angular + PK + semi-hard", "semi-hard", against="both"),
            Row("progressive stages", "progressive", against="both"),
            Row("progressive stages, generation 3", "progressive", 3, against="progressive-3"),
            Row("progressive stages, each three times as long", "progressive-3"),
        ),
    ),
    Section(
        "Do augmented views pay?",
        (
            Row("mirror only, half as long", "both-2"),
            Row(
                "fresh views, teacher sees the plain image, half as long",
                "fresh-plain-2",
                against="both-2",
            ),
            Row(
                "fresh views, plain image half the time, half as long",
                "fresh-half-plain-2",
                against="both-2",
            ),
            Row("mirror only", "mirror"),
            Row("4 views", "views-4", against="mirror"),
            Row("16 views", "views-16", against="mirror"),
            Row("64 views", "views-64", against="mirror"),
            Row("16 views, plain image half the time", "views-half-plain", against="mirror"),
            Row("16 views, half of them mixed", "views-mix", against="mirror"),
            Row("16 views, dropout 0.4", "views-dropout", against="mirror"),
            Row("16 views, weights 20 : 0.15", "views-weights", against="mirror"),
            Row("16 views, angular alone", "views-angular", against="mirror"),
            Row("fresh views, teacher sees the plain image", "fresh-plain", against="mirror"),
            Row("fresh views, plain image half the time", "fresh-half-plain", against="mirror"),
            Row("the same, and a second schedule half as long", "continued"),
            Row("fresh views for poor cameras", "camera", against="mirror"),
            Row("fresh views for poor cameras, JPEG and light", "poor-images", against="mirror"),
            Row("no teacher: ArcFace alone, mirror only", "mirror-labels", against="mirror"),
            Row("no teacher: ArcFace alone, 16 views", "views-labels", against="mirror-labels"),
            Row("no teacher: ArcFace alone, fresh views", "fresh-labels", against="mirror-labels"),
        ),
        degraded=True,
    ),
    Section(
        "Other weights and other losses, mirror only",
        (
            Row("ArcFace + angular, weights 0.15 : 7", "mirror"),
            Row("weights 0.15 : 20", "mirror-weights", against="mirror"),
            Row("angular alone", "mirror-angular", against="mirror"),
            Row("dropout 0.4", "mirror-dropout", against="mirror"),
            Row("AdaDistill + angular", "adadistill", against="mirror"),
            Row("pseudo-classes (queue of 4,096) alone", "pseudo-classes", against="mirror"),
            Row("pseudo-classes + angular", "pseudo-angular", against="mirror"),
            Row("ArcFace + angular + relational", "relational", against="mirror"),
        ),
    ),
    Section(
        "A schedule three times as long",
        (
            Row("mirror only", "mirror-long"),
            Row("16 views", "views-long", against="mirror-long"),
            Row(
                "fresh views, teacher sees the plain image",
                "fresh-plain-long",
                against="mirror-long",
            ),
            Row(
                "fresh views, plain image half the time",
                "fresh-half-plain-long",
                against="mirror-long",
            ),
            Row("no teacher: ArcFace alone, 16 views", "views-labels-long", against="mirror-long"),
        ),
        degraded=True,
    ),
)


def is_degraded(recipe: str) -> bool:
    """Whether a recipe's network is also scored on degraded pairs."""
    sections = [section for section in SECTIONS if section.degraded]
    return any(row.recipe == recipe for section in sections for row in section.rows)


def controls_of(recipe: str, generation: int) -> list[str]:
    """The recipes that rows of this network are compared with."""
    rows = [row for section in SECTIONS for row in section.rows if row.against]
    here = [row.against for row in rows if (row.recipe, row.generation) == (recipe, generation)]
    return list(dict.fromkeys(here))
