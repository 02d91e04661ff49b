"""Files beside a store or view: its findings, views of its store, evaluation sets."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions
from curation.noise.findings import FINDINGS_FILE, Findings, findings_folder
from curation.noise.overrides import refuse_contradictions, refuse_other_findings
from curation.pairs import VerificationPairs, read_pairs
from curation.views import View

VIEWS, PAIRS = "*.view", "*.bin"


def sibling_findings(images: ImageSet) -> Findings | None:
    """The findings on these images; None if there are none.

    Raises ``UserError`` if they are damaged or belong to earlier contents of ``images``.
    """
    path = findings_folder(images)
    if not (path / FINDINGS_FILE).exists():
        return None
    return Findings(path, images)


def decisions_of(findings: Findings) -> list[Decision]:
    """The table of decisions of the findings; empty if there is none.

    Raises ``UserError`` if it contradicts itself or belongs to other findings.
    """
    path = findings.path / DECISIONS_FILE
    if not path.exists():
        return []
    decisions = read_decisions(path, findings.meta.images_digest)
    refuse_other_findings(decisions, findings)
    refuse_contradictions(decisions)
    return decisions


def sibling_views(images: ImageSet) -> list[View]:
    """The views of the same store in its folder or in that of ``images``, by name.

    Unreadable views and views of other stores are ignored.
    """
    folders = {images.path.parent, images.store.path.parent}
    paths = {os.path.realpath(path) for folder in folders for path in folder.glob(VIEWS)}
    found = (_view_or_none(Path(path)) for path in sorted(paths))
    return [view for view in found if view is not None and view.store.digest == images.store.digest]


def sibling_pairs(images: ImageSet) -> list[VerificationPairs]:
    """The readable evaluation sets in the store's folder, by name."""
    found = (_pairs_or_none(path) for path in sorted(images.store.path.parent.glob(PAIRS)))
    return [pairs for pairs in found if pairs is not None]


def checked_sets(
    findings: Findings, pairs: Iterable[VerificationPairs]
) -> list[tuple[str, VerificationPairs | None]]:
    """Name and set of each checked evaluation set, in order; None if ``pairs`` has none with its
    digest.
    """
    by_digest = {one.digest: one for one in pairs}
    return [(name, by_digest.get(digest)) for name, digest in findings.meta.evaluation.items()]


def given_pairs(paths: Sequence[Path], findings: Findings | None) -> list[VerificationPairs]:
    """The evaluation sets in these files.

    Raises ``UserError`` if one cannot be read, or ``findings`` did not use it.
    """
    checked = {} if findings is None else findings.meta.evaluation
    pairs = [read_pairs(path) for path in paths]
    for path, one in zip(paths, pairs, strict=True):
        if one.digest not in checked.values():
            raise UserError(
                f"{path} is not one of the evaluation sets that were checked "
                f"({', '.join(checked) or 'none'}); leave it out, or check again with it"
            )
    return pairs


def set_and_views(images: ImageSet, views: Sequence[View]) -> list[ImageSet]:
    """``images`` first, then the other views by number of steps."""
    others = [view for view in views if view.path.resolve() != images.path.resolve()]
    return [images, *sorted(others, key=lambda view: len(view.history))]


def _view_or_none(path: Path) -> View | None:
    try:
        return View(path)
    except UserError:
        return None


def _pairs_or_none(path: Path) -> VerificationPairs | None:
    try:
        return read_pairs(path)
    except UserError:
        return None
