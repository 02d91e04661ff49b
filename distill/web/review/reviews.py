"""The available reviews, opened on request and kept."""

import threading
from collections.abc import Callable
from pathlib import Path

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.findings import FINDINGS_FILE, Findings, findings_folder, read_meta
from curation.printable import argument
from curation.review.review import Review
from curation.views import open_images

_MOST_KEPT = 4


class Reviews:
    """Reviews by the names of their image sets; ``locate`` maps a name to the set's path."""

    def __init__(self, locate: Callable[[str], Path]) -> None:
        self._locate = locate
        self._mutex = threading.Lock()
        self._open: dict[str, Review] = {}

    def open(self, name: str) -> Review:
        """The review of a store or view, reopened if its findings have changed.

        Raises ``UserError`` if there is no such set, or it has no findings.
        """
        with self._mutex:
            review = self._open.pop(name, None)
            if review is None or not review.is_current():
                review = open_review(self._locate(name))
            self._open[name] = review
            while len(self._open) > _MOST_KEPT:
                del self._open[next(iter(self._open))]
            return review


def open_review(path: Path) -> Review:
    """The review of a store or view, or of the findings in a folder of that name.

    Raises ``UserError`` if there is no such set, or it has no findings.
    """
    if (path / FINDINGS_FILE).exists():
        images, findings = _images_of(path), path
    else:
        images = open_images(path)
        findings = findings_folder(images)
    if not (findings / FINDINGS_FILE).exists():
        raise UserError(
            f"there are no findings about {images.path}: `curate check {argument(images.path)} "
            "--teacher ...` makes them"
        )
    return Review(images, Findings(findings, images))


def _images_of(findings: Path) -> ImageSet:
    """The store or view next to the findings, to which they refer."""
    wanted = read_meta(findings).images_digest
    name = findings.name.partition(".findings")[0]
    for candidate in (findings.with_name(f"{name}{suffix}") for suffix in (".view", ".lmdb")):
        if candidate.is_dir() and (found := open_images(candidate)).digest == wanted:
            return found
    raise UserError(
        f"{findings} is about images that are not beside it as {name}.view or {name}.lmdb"
    )
