"""What the steps of a recipe share: where they take from and put to, and what they made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.noise.eyes import Eyes, TeacherChoice
from curation.recipes.file import Parents
from curation.store import ImageSet
from curation.views import open_images

OpenEyes = Callable[[TeacherChoice], Eyes]


@dataclass(frozen=True)
class Made:
    """One thing that a recipe made, or found made before (``reused``)."""

    path: Path
    kind: Literal[
        "source", "store", "view", "pairs", "findings", "mark", "report", "refused", "skipped"
    ]
    images: int | None = None
    identities: int | None = None
    reused: bool = False
    note: str = ""


@dataclass(frozen=True)
class Kitchen:
    """Where a recipe takes from and puts to, and who looks at what it made."""

    source: Path
    target: Path
    open_eyes: OpenEyes | None = None
    teacher: TeacherChoice | None = None

    def parent(self, names: Parents) -> ImageSet:
        """The first of the named stores and views that is there; the last where none is."""
        choices = [names] if isinstance(names, str) else names
        for name in choices:
            for path in (self.target / f"{name}.view", self.target / f"{name}.lmdb"):
                if path.exists():
                    return open_images(path)
        return open_images(self.target / f"{choices[-1]}.lmdb")
