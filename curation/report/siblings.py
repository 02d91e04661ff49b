"""Sibling files of a store or view: its findings, views of its store, evaluation sets."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions
from curation.noise.findings import FINDINGS_FILE, Findings, findings_folder
from curation.noise.overrides import refuse_contradictions, refuse_other_findings
from curation.pairs import VerificationPairs, read_pairs
from curation.store import ImageSet
from curation.views import View

VIEWS, PAIRS = "*.view", "*.bin"


def sibling_findings(images: ImageSet) -> Findings | None:
    """The findings of these images, or None where there are none.

    Raises ``UserError`` where they are damaged, or about what ``images`` were before.
    """
    path = findings_folder(images)
    if not (path / FINDINGS_FILE).exists():
        return None
    return Findings(path, images)


def decisions_of(findings: Findings) -> list[Decision]:
    """The table of decisions of the findings; empty where there is none.

    Raises ``UserError`` where it contradicts itself, or is about other findings.
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

    Those that cannot be read, or are of another store, are left out.
    """
    folders = {images.path.parent, images.store.path.parent}
    paths = {os.path.realpath(path) for folder in folders for path in folder.glob(VIEWS)}
    found = (_view_or_none(Path(path)) for path in sorted(paths))
    return [view for view in found if view is not None and view.store.digest == images.store.digest]


def sibling_pairs(images: ImageSet) -> list[VerificationPairs]:
    """The evaluation sets in the store's folder that can be read, by name."""
    found = (_pairs_or_none(path) for path in sorted(images.store.path.parent.glob(PAIRS)))
    return [pairs for pairs in found if pairs is not None]


def checked_sets(
    findings: Findings, pairs: Iterable[VerificationPairs]
) -> list[tuple[str, VerificationPairs | None]]:
    """The evaluation sets that were checked, in their order, by name; None where none of ``pairs``
    has the digest of one."""
    by_digest = {one.digest: one for one in pairs}
    return [(name, by_digest.get(digest)) for name, digest in findings.meta.evaluation.items()]


def given_pairs(paths: Sequence[Path], findings: Findings | None) -> list[VerificationPairs]:
    """The evaluation sets in these files.

    Raises ``UserError`` where one cannot be read, or ``findings`` were not compared with it.
    """
    checked = {} if findings is None else findings.meta.evaluation
    pairs = [read_pairs(path) for path in paths]
    for path, one in zip(paths, pairs, strict=True):
        if one.digest not in checked.values():
            raise UserError(
                f"{path} is none of the evaluation sets that were checked "
                f"({', '.join(checked) or 'none'}); leave it out, or check again with it"
            )
    return pairs


def set_and_views(images: ImageSet, views: Sequence[View]) -> list[ImageSet]:
    """``images`` first, then the other views, those with fewer steps before those with more."""
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
