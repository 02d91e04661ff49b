"""The tables of `just bench-learning`: questions, and the trainings that answer them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A recipe's network after so many generations."""

    title: str
    recipe: str
    generation: int = 1


@dataclass(frozen=True)
class Section:
    """A question. ``degraded``: its networks are scored on degraded pairs as well."""

    question: str
    rows: tuple[Row, ...]
    degraded: bool = False


SECTIONS = (
    Section(
        "What does a teacher bring?",
        (
            Row("ArcFace alone", "arcface"),
            Row("ArcFace + angular (Eq. 5, α = 7)", "both"),
            Row("angular alone, no labels", "angular"),
            Row("ArcFace + Eq. 4 instead of Eq. 5", "squared"),
        ),
    ),
    Section(
        "Generations, or one schedule of the same length?",
        (
            Row("ArcFace + angular, generation 2", "both", 2),
            Row("ArcFace + angular, one schedule", "both-2"),
            Row("ArcFace + angular, generation 3", "both", 3),
            Row("ArcFace + angular, one schedule", "both-3"),
            Row("ArcFace + angular, generation 4", "four-generations", 4),
            Row("ArcFace + angular, one schedule", "mirror"),
            Row("ArcFace alone, generation 3", "arcface-generations", 3),
            Row("ArcFace alone, one schedule", "arcface-3"),
        ),
    ),
    Section(
        "Stages and triplets",
        (
            Row("ArcFace + angular + PK + semi-hard", "semi-hard"),
            Row("progressive stages", "progressive"),
            Row("progressive stages, generation 3", "progressive", 3),
            Row("progressive stages, each three times as long", "progressive-3"),
        ),
    ),
    Section(
        "Do augmented views pay?",
        (
            Row("mirror only, half as long", "both-2"),
            Row("fresh views, teacher sees the plain picture, half as long", "fresh-plain-2"),
            Row("mirror only", "mirror"),
            Row("4 views", "views-4"),
            Row("16 views", "views-16"),
            Row("64 views", "views-64"),
            Row("16 views, plain picture half the time", "views-half-plain"),
            Row("16 views, half of them mixed", "views-mix"),
            Row("16 views, dropout 0.4", "views-dropout"),
            Row("16 views, weights 20 : 0.15", "views-weights"),
            Row("16 views, angular alone", "views-angular"),
            Row("fresh views, teacher sees the plain picture", "fresh-plain"),
            Row("the same, plain picture half the time", "fresh-half-plain"),
            Row("no teacher: ArcFace alone, mirror only", "mirror-labels"),
            Row("no teacher: ArcFace alone, 16 views", "views-labels"),
            Row("no teacher: ArcFace alone, fresh views", "fresh-labels"),
        ),
        degraded=True,
    ),
    Section(
        "Other weights and other losses, mirror only",
        (
            Row("ArcFace + angular, weights 0.15 : 7", "mirror"),
            Row("weights 0.15 : 20", "mirror-weights"),
            Row("angular alone", "mirror-angular"),
            Row("dropout 0.4", "mirror-dropout"),
            Row("AdaDistill + angular", "adadistill"),
            Row("pseudo-classes (queue of 4,096) alone", "pseudo-classes"),
            Row("pseudo-classes + angular", "pseudo-angular"),
            Row("ArcFace + angular + relational", "relational"),
        ),
    ),
    Section(
        "A schedule three times as long",
        (
            Row("mirror only", "mirror-long"),
            Row("16 views", "views-long"),
            Row("fresh views, teacher sees the plain picture", "fresh-plain-long"),
            Row("no teacher: ArcFace alone, 16 views", "views-labels-long"),
        ),
        degraded=True,
    ),
)


def is_degraded(recipe: str) -> bool:
    """Whether a recipe's network is scored on degraded pairs too."""
    sections = [section for section in SECTIONS if section.degraded]
    return any(row.recipe == recipe for section in sections for row in section.rows)
