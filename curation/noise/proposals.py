"""From findings to proposed decisions: each image and identity gets at most one fate.

The checks propose in the order of their precedence. What is surely not to be trained on goes first:
overlap, then unusable, then repeated pictures. Then identities are split, before single images are
judged misplaced.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from curation.errors import UserError
from curation.noise.check import Fates, NoiseCheck, all_checks, load_finding
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, Findings


def propose(findings: Findings, images: EmbeddedImages) -> Iterator[Decision]:
    """Decisions on all flagged, in the order of identities within each kind.

    Each names the findings it follows from. Raises ``UserError`` where findings cannot be read, or
    do not say of every image or identity what they should.
    """
    made = {name: one for name, one in all_checks().items() if name in findings.checks}
    fates = Fates(images, {name: _whole(findings, one, images) for name, one in made.items()})
    for one in sorted(made.values(), key=lambda check: check.precedence):
        finding = fates.findings[one.name]
        for decision in one.propose(finding, fates):
            yield replace(decision, check=one.name, findings=finding.identity)


def _whole(findings: Findings, check: NoiseCheck, images: EmbeddedImages) -> Finding:
    """The finding, of a check that scores all there are with all of them, in order."""
    finding = load_finding(findings, check.name)
    there = np.arange(len(images) if check.subject == "image" else images.identities)
    if check.scores_all and not np.array_equal(finding.subjects, there):
        raise UserError(
            f"{findings.path / check.name}.npz is damaged: it does not score every "
            f"{check.subject}; check again"
        )
    return finding
