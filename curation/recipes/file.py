"""The format of recipe files: the steps and their settings."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.errors import UserError
from curation.json_text import first_fault
from curation.noise.embedded import TeacherChoice
from curation.suggestions import hint, unknown
from curation.toml_positions import TomlSource, in_words, within_document
from curation.toml_text import read_toml

RECIPES = Path(__file__).parent
DATASET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


MOST_ROUNDS = 20
Name = Annotated[str, Field(pattern=f"^{DATASET_NAME.pattern}$")]
Parents = Name | Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
"""The name of a store or view, or several; the first that exists is used."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    unit: ClassVar[str] = "images"
    """The unit of the step's progress"""


class DrawStep(_Model):
    """Draw the sample data set into ``sources/DATASET``."""

    do: Literal["draw"]
    seed: int = Field(default=0, ge=0, lt=2**32)
    identities: int = Field(default=150, ge=30, le=100_000)
    faults: bool = True
    """Whether wrong labels, duplicates and other faults are planted"""


class ConvertStep(_Model):
    """Convert the source to the store ``TO.lmdb``."""

    do: Literal["convert"]
    to: Name
    skip_bad: bool = False
    """Whether unreadable records are skipped and listed instead of ending the recipe"""


class LongTailCutStep(_Model):
    """Make the view ``TO.view`` of ``of`` without identities of fewer than ``minimum`` images."""

    do: Literal["long-tail-cut"]
    of: Parents
    to: Name
    minimum: int = Field(ge=2, le=1_000_000_000)


class RetinaSStep(_Model):
    """Make the view ``TO.view`` of ``of`` without identities of more than ``maximum`` images."""

    do: Literal["retina-s"]
    of: Parents
    to: Name
    maximum: int = Field(ge=1, le=1_000_000_000)


class CopyPairsStep(_Model):
    """Copy the source's verification sets, ``*.bin``, that can be read."""

    do: Literal["copy-pairs"]


class CheckStep(_Model):
    """Check ``of`` with a teacher's embeddings; skipped without a teacher."""

    do: Literal["check"]
    of: Name
    teacher: TeacherChoice | None = None


class CleanStep(_Model):
    """Make the view ``TO.view`` of ``of`` by applying the decisions on its findings.

    With ``rounds`` the cleaned images (``TO-1.view`` and so on) are checked and cleaned again, up
    to ``rounds`` times in all, until a round has fewer decisions than the share ``until`` of the
    images.
    """

    do: Literal["clean"]
    of: Name
    to: Name
    rounds: int = Field(default=1, ge=1, le=MOST_ROUNDS)
    until: float = Field(default=0.001, ge=0, lt=1)


class ReportStep(_Model):
    """Write the report page ``OF.report.html`` on ``of`` and its findings."""

    unit: ClassVar[str] = "checks"

    do: Literal["report"]
    of: Name


class ScoreStep(_Model):
    """Score the findings on ``of`` against the faults planted in the sample."""

    do: Literal["score", "mark"]
    """"mark" is accepted for older recipes"""
    of: Name


Step = Annotated[
    DrawStep
    | ConvertStep
    | LongTailCutStep
    | RetinaSStep
    | CopyPairsStep
    | CheckStep
    | CleanStep
    | ReportStep
    | ScoreStep,
    Field(discriminator="do"),
]


_STEPS = {
    name: step
    for step in get_args(get_args(Step)[0])
    for name in get_args(step.model_fields["do"].annotation)
}
_TABLES: dict[Any, type[BaseModel]] = {**_STEPS, "teacher": TeacherChoice}
"""The models by the last name in an error location that is not one of their own keys"""


class Recipe(_Model):
    """A recipe file; unknown keys are errors."""

    description: str
    dataset: str = Field(pattern=f"^{DATASET_NAME.pattern}$")
    source_variable: str | None = None
    """The environment variable that may name the source's folder"""
    step: tuple[Step, ...] = Field(min_length=1, strict=False)

    def check_of(self, images: str) -> CheckStep | None:
        """The step that checks these images."""
        checks = (step for step in self.step if isinstance(step, CheckStep))
        return next((step for step in checks if step.of == images), None)


def recipe_names() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """The recipe called ``name``; ``UserError`` if there is none."""
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    return parse_recipe((RECIPES / f"{name}.toml").read_text("utf-8"), f"recipe {name}")


def parse_recipe(text: str, what: str) -> Recipe:
    """Parse a recipe; ``UserError`` with the place and the key if it is invalid."""
    document = read_toml(text, what)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise UserError(_describe(error, document, TomlSource(text, what))) from None


def _describe(error: ValidationError, document: dict[str, Any], source: TomlSource) -> str:
    """The first error, with a suggestion of similar keys."""
    fault = error.errors(include_url=False)[0]
    location = within_document(fault["loc"], document)
    place, key = source.at(location), in_words(location)
    if fault["type"] == "extra_forbidden":
        *_, outer, name = (None, *fault["loc"])
        fields = _TABLES.get(outer, Recipe).model_fields
        place, key = source.at(location, of_key=True), in_words(location[:-1])
        message = f"unknown key {str(name)[:80]!r}{hint(str(name), fields)}"
    elif fault["type"] == "union_tag_invalid":
        message = str(unknown("step", fault["ctx"]["tag"], _STEPS))
    else:
        message = first_fault(error, with_place=False)
        if fault["type"] == "missing":
            message = f"{fault['loc'][-1]!r} is missing"
    return ": ".join(filter(None, (place, key, message)))
