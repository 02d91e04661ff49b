"""The examples of one check: the worst cases, and the borderline ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curation.image_set import ImageSet
from curation.noise.check import NoiseCheck, check_of
from curation.noise.decisions import Decision
from curation.noise.findings import CheckSummary, Finding
from curation.noise.presentation import Explanation, ScoredSubject
from curation.report.gallery import DrawnEvidence, Gallery
from curation.report.histogram import ScoreHistogram, score_histogram
from curation.report.proposals import Proposal, Proposals

OF_ONE = 3
"""Maximum number of worst cases of one identity, while there are others"""
LOOK_AMONG = 20
"""The worst cases are chosen from this many times as many flagged subjects"""


@dataclass(frozen=True)
class Case:
    """One flagged, or nearly flagged, image or identity."""

    key: str
    """Unique on the page: "misplaced-17" """
    check: str
    score: float
    is_flagged: bool
    proposal: Proposal
    evidence: DrawnEvidence

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The lines to decide here; empty if another check settles the case."""
        return () if self.proposal.settled_by else self.proposal.lines


@dataclass(frozen=True)
class Group:
    """Cases under one heading, highest scores first."""

    title: str
    hint: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class CheckSection:
    """The section of the page on one check."""

    summary: CheckSummary
    explanation: Explanation
    scores: ScoreHistogram
    groups: tuple[Group, ...]

    @property
    def cases(self) -> list[Case]:
        return [case for group in self.groups for case in group.cases]


def check_section(
    gallery: Gallery, proposals: Proposals, summary: CheckSummary, finding: Finding, examples: int
) -> CheckSection:
    """The section of a check, with at most ``examples`` worst and as many borderline cases."""
    check = check_of(finding)
    about = _about(gallery.images, check, finding)
    seen: set[frozenset[int | None]] = set()
    groups = []
    for title, hint, positions in _chosen(about, finding, examples):
        cases = [_case(gallery, proposals, check, finding, int(at)) for at in positions]
        cases = [case for case in cases if not _is_mirrored(case, seen)]
        if cases:
            groups.append(Group(title, hint, tuple(cases)))
    return CheckSection(summary, check.explanation, score_histogram(finding), tuple(groups))


def _is_mirrored(case: Case, seen: set[frozenset[int | None]]) -> bool:
    """Whether the case concerns two identities of an earlier case, the other way round.

    Of the two cases, the one whose identity is merged into the other is kept. Updates ``seen``.
    """
    if case.proposal.settled_by == case.check:
        return True
    line = next(iter(case.decisions), None)
    if line is None or line.action != "merge":
        return False
    pair = frozenset((line.identity, line.into))
    is_seen = pair in seen
    seen.add(pair)
    return is_seen


def _chosen(
    about: np.ndarray, finding: Finding, examples: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    candidates = finding.worst(LOOK_AMONG * examples)
    worst = _spread(candidates, about[candidates], examples)
    borderline = finding.borderline(examples)
    is_flagged = finding.flagged[borderline]
    above = borderline[is_flagged & ~np.isin(borderline, worst)]
    below = borderline[~is_flagged]
    yield (
        "Worst",
        f"the highest scores, at most {OF_ONE} while others are left",
        worst,
    )
    yield "Borderline, flagged", "the lowest scores that were flagged", above[::-1]
    yield (
        "Borderline, not flagged",
        "the highest scores that were not flagged: nothing is done unless you accept the case",
        below,
    )


def _about(images: ImageSet, check: NoiseCheck, finding: Finding) -> np.ndarray:
    """The identity of each subject, ``[S]``; for a split identity, the other one."""
    if finding.subject == "image":
        return images.labels[finding.subjects]
    return finding.evidence.get(check.merge_column, finding.subjects)


def _spread(positions: np.ndarray, about: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` positions in order, at most ``OF_ONE`` per identity; others fill the
    rest.

    Otherwise one large identity full of wrong images could take all places.
    """
    order = np.argsort(about, kind="stable")
    ordered = about[order]
    place = np.empty(len(about), int)
    place[order] = np.arange(len(about)) - np.searchsorted(ordered, ordered)
    first = np.argsort(place >= OF_ONE, kind="stable")[:count]
    return positions[np.sort(first)]


def _case(
    gallery: Gallery, proposals: Proposals, check: NoiseCheck, finding: Finding, position: int
) -> Case:
    names = tuple(name for name, _ in gallery.evaluation)
    one = ScoredSubject(finding, position, gallery.images, names)
    return Case(
        key=f"{finding.check}-{one.index}",
        check=finding.check,
        score=one.score,
        is_flagged=bool(finding.flagged[position]),
        proposal=proposals.of(check, one),
        evidence=gallery.draw(check.evidence(one)),
    )
