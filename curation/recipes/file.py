"""The files of recipes: which steps there are and what each may say."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.errors import UserError
from curation.json_text import first_fault
from curation.noise.embedded import TeacherChoice
from curation.suggestions import unknown
from curation.toml_text import read_toml

RECIPES = Path(__file__).parent
DATASET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


Name = Annotated[str, Field(pattern=f"^{DATASET_NAME.pattern}$")]
Parents = Name | Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
"""A store's or view's name, or several: the first that is there is taken."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    unit: ClassVar[str] = "images"
    """What the progress of a step counts"""


class Draw(_Model):
    """Draw the sample data set into ``sources/DATASET``."""

    do: Literal["draw"]
    seed: int = 0
    identities: int = Field(default=150, ge=30, le=100_000)
    faults: bool = True
    """Whether wrong labels, duplicates and the like are planted"""


class Convert(_Model):
    """Convert the source to the store ``TO.lmdb``."""

    do: Literal["convert"]
    to: Name
    skip_bad: bool = False
    """Whether records that cannot be read are left out and listed, instead of ending the recipe"""


class LongTailCut(_Model):
    """The view ``TO.view`` of ``of`` without identities of fewer than ``minimum`` images."""

    do: Literal["long-tail-cut"]
    of: Parents
    to: Name
    minimum: int = Field(ge=2)


class RetinaS(_Model):
    """The view ``TO.view`` of ``of`` without identities of more than ``maximum`` images."""

    do: Literal["retina-s"]
    of: Parents
    to: Name
    maximum: int = Field(ge=1)


class CopyPairs(_Model):
    """Copy the source's verification sets, ``*.bin``, that can be read."""

    do: Literal["copy-pairs"]


class Check(_Model):
    """Check ``of`` with a teacher's embeddings; skipped where no teacher is given."""

    do: Literal["check"]
    of: Name
    teacher: TeacherChoice | None = None


class Clean(_Model):
    """The view ``TO.view`` of ``of``, after the decisions on what the checks found."""

    do: Literal["clean"]
    of: Name
    to: Name


class Report(_Model):
    """The page about ``of`` and what was found in it, ``OF.report.html``."""

    unit: ClassVar[str] = "checks"

    do: Literal["report"]
    of: Name


class Mark(_Model):
    """Compare what the checks found in ``of`` with the faults that the sample says it has."""

    do: Literal["mark"]
    of: Name


Step = Annotated[
    Draw | Convert | LongTailCut | RetinaS | CopyPairs | Check | Clean | Report | Mark,
    Field(discriminator="do"),
]


class Recipe(_Model):
    """A recipe's file; unknown keys are errors."""

    description: str
    dataset: str = Field(pattern=f"^{DATASET_NAME.pattern}$")
    source_variable: str | None = None
    """The environment variable that may name the source's folder"""
    step: tuple[Step, ...] = Field(min_length=1, strict=False)


def recipe_names() -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """The recipe called ``name``; ``UserError`` where there is none."""
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    return parse_recipe((RECIPES / f"{name}.toml").read_text("utf-8"), f"recipe {name}")


def parse_recipe(text: str, what: str) -> Recipe:
    """Raises ``UserError`` with the key where the text is not a recipe."""
    try:
        return Recipe.model_validate(read_toml(text, what))
    except ValidationError as error:
        raise UserError(f"{what}: {first_fault(error)}") from None
