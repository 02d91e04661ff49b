"""Shared by the steps of a recipe: paths, options and results."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.embedded import ImageSetEmbedder, TeacherChoice
from curation.progress import Say, silent
from curation.recipes.file import CheckStep, CleanStep, Parents
from curation.recipes.ledger import Ledger
from curation.sources.label_choice import USUAL, LabelChoice
from curation.views import open_images

_KINDS = (".view", ".lmdb")
OpenEmbedder = Callable[[TeacherChoice], ImageSetEmbedder]


@dataclass(frozen=True)
class StepResult:
    """Something that a recipe made, or had made before (``reused``)."""

    path: Path
    kind: Literal[
        "source", "store", "view", "pairs", "findings", "score", "report",
        "refused", "skipped", "kept",
    ]  # fmt: skip
    images: int | None = None
    identities: int | None = None
    reused: bool = False
    note: str = ""


@dataclass(frozen=True)
class RecipeContext:
    """The paths and options of a recipe, and how it opens a teacher."""

    source: Path
    target: Path
    open_embedder: OpenEmbedder | None = None
    teacher: TeacherChoice | None = None
    skip_bad: bool = False
    """Skip and list bad records, regardless of the recipe"""
    labels: LabelChoice = USUAL
    """Where the source has its labels"""
    rounds: int | None = None
    """Overrides the recipe's rounds of cleaning"""
    say: Say = silent

    @property
    def ledger(self) -> Ledger:
        """The record of what recipes made in ``target``."""
        return Ledger(self.target)

    def embedder(self, step: CheckStep) -> ImageSetEmbedder | None:
        """The embedder of the given teacher, or else of the recipe's; None without one."""
        choice = self.teacher or step.teacher
        return None if choice is None or self.open_embedder is None else self.open_embedder(choice)

    def rounds_of(self, step: CleanStep) -> int:
        """The given maximum number of rounds, or else the recipe's."""
        return step.rounds if self.rounds is None else self.rounds

    def parent(self, names: Parents) -> ImageSet:
        """The first of the named stores and views that exists and can be read.

        If there is none, raises the error of the last.
        """
        *choices, last = [names] if isinstance(names, str) else names
        candidates = (self.target / f"{name}{kind}" for name in choices for kind in _KINDS)
        for path in filter(Path.exists, candidates):
            with suppress(UserError):
                return open_images(path)
        view, store = (self.target / f"{last}{kind}" for kind in _KINDS)
        return open_images(view if view.exists() else store)
