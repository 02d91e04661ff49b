"""What the steps of a recipe share: where they read and write, and their results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.errors import UserError
from curation.noise.embedded import ImageSetEmbedder, TeacherChoice
from curation.progress import Say, unsaid
from curation.recipes.file import CheckStep, CleanStep, Parents
from curation.recipes.ledger import Ledger
from curation.store import ImageSet
from curation.views import open_images

OpenEmbedder = Callable[[TeacherChoice], ImageSetEmbedder]


@dataclass(frozen=True)
class StepResult:
    """One thing that a recipe made, or found made before (``reused``)."""

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
    """Where a recipe reads and writes, and how a teacher is opened for its checks."""

    source: Path
    target: Path
    open_embedder: OpenEmbedder | None = None
    teacher: TeacherChoice | None = None
    skip_bad: bool = False
    """Whether bad records are left out and listed, in every recipe"""
    rounds: int | None = None
    """Of cleaning, whatever the recipe says"""
    say: Say = unsaid

    @property
    def ledger(self) -> Ledger:
        """What recipes have made in ``target``."""
        return Ledger(self.target)

    def embedder(self, step: CheckStep) -> ImageSetEmbedder | None:
        """Of the teacher that was asked for, else the recipe's; None where there is none."""
        choice = self.teacher or step.teacher
        return None if choice is None or self.open_embedder is None else self.open_embedder(choice)

    def rounds_of(self, step: CleanStep) -> int:
        """How often is cleaned at most, as was asked for, else as the recipe says."""
        return step.rounds if self.rounds is None else self.rounds

    def parent(self, names: Parents) -> ImageSet:
        """The first of the named stores and views that is there and can be read.

        The last where none is; its error says what is wrong with it.
        """
        choices = [names] if isinstance(names, str) else names
        for name in choices:
            for path in (self.target / f"{name}.view", self.target / f"{name}.lmdb"):
                if path.exists():
                    try:
                        return open_images(path)
                    except UserError:
                        if name == choices[-1]:
                            raise
        return open_images(self.target / f"{choices[-1]}.lmdb")
