"""The source of an evaluation set, opened the same way by jobs and commands."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pair_sets.making import pairs_of_list
from curation.pairs import VerificationPairs, read_pairs
from curation.progress import Progress
from curation.views import open_images

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".lst")
"""Suffixes of lists of pairs"""


@dataclass(frozen=True)
class SetSource:
    """A ``.bin`` of pairs, a store or view, or a list of pairs.

    ``images`` is what a list refers to: a store or view whose images it names, or the folder that
    its paths are relative to.
    """

    path: Path
    images: Path | None = None

    @property
    def is_list(self) -> bool:
        return self.path.suffix.lower() in LIST_SUFFIXES

    @property
    def is_pairs(self) -> bool:
        """Whether it has explicit pairs, rather than all pairs of its images."""
        return self.path.suffix.lower() == ".bin" or self.is_list

    def open(self, progress: Progress | None = None) -> VerificationPairs | ImageSet:
        """Open the set; ``UserError`` if it cannot be read. ``progress`` counts pairs of a list."""
        if not self.is_list:
            return read_pairs(self.path) if self.is_pairs else open_images(self.path)
        if self.images is None or not self.images.name.endswith((".lmdb", ".view")):
            return _listed(self.path, self.images, self.path.stem, progress)
        images = open_images(self.images)
        return _listed(self.path, images, f"{self.path.stem}-{images.name}", progress)


def split_list(name: str) -> tuple[str, str] | None:
    """The two parts of LIST:SET; None if the name does not have this form."""
    listed, _, images = name.rpartition(":")
    return (listed, images) if images and Path(listed).suffix.lower() in LIST_SUFFIXES else None


def _listed(
    path: Path, images: Path | ImageSet | None, name: str, progress: Progress | None
) -> VerificationPairs:
    try:
        made = pairs_of_list(path, images, progress=progress)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    digest = hashlib.sha256(made.same.tobytes())
    for image in made.images:
        digest.update(hashlib.sha256(image).digest())
    return VerificationPairs(list(made.images), made.same, digest.hexdigest(), name, made.order)
