"""The cases of a review: every flag of every check, with its identity and rival.

Stored in columns, since a large set has hundreds of thousands of flags.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from curation.image_set import ImageSet
from curation.noise.check import NoiseCheck, check_of, load_finding
from curation.noise.decisions import Decision
from curation.noise.findings import Finding, Findings
from curation.noise.presentation import ScoredSubject
from curation.report.proposals import Proposal, Proposals
from curation.review.order import review_order

NONE = -1


@dataclass(frozen=True)
class Cases:
    """C cases of an image set, ordered by check and subject."""

    images: ImageSet
    findings: tuple[Finding, ...]
    proposals: Proposals
    evaluation: tuple[str, ...]
    """Names of the checked evaluation sets"""
    check: np.ndarray
    """int16 ``[C]``: the index of the finding"""
    position: np.ndarray
    """int64 ``[C]``: the position of the subject in its finding"""
    score: np.ndarray
    """float32 ``[C]``"""
    identity: np.ndarray
    """int64 ``[C]``: the identity itself, or the label of the image"""
    rival: np.ndarray
    """int64 ``[C]``: the identity it is compared with; -1 for none"""
    size: np.ndarray
    """int64 ``[C]``: the number of images of both"""
    places: tuple[dict[int, int], ...] = field(repr=False)
    """For each finding, the case of each flagged subject"""
    checks: tuple[NoiseCheck, ...] = field(init=False)
    under: np.ndarray = field(init=False)
    """int64 ``[C]``: the case that also settles this one unless rejected; -1 for none"""
    is_mirrored: np.ndarray = field(init=False)
    """bool ``[C]``: ``under`` asks about the same two identities, the other way round"""
    settled: np.ndarray = field(init=False)
    """bool ``[C]``: the table of decisions has an edited answer"""
    order: np.ndarray = field(init=False)
    """int64 ``[C]``: the review order, most informative first"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", tuple(check_of(one) for one in self.findings))
        under, settled = self._settled()
        object.__setattr__(self, "under", under)
        object.__setattr__(self, "settled", settled)
        is_mirrored = (under != NONE) & (self.check[under] == self.check)
        object.__setattr__(self, "is_mirrored", is_mirrored)
        object.__setattr__(self, "order", review_order(self.score, self.size))

    def __len__(self) -> int:
        return len(self.check)

    def key(self, case: int) -> str:
        """The key of the case: "misplaced-17"."""
        return f"{self.findings[self.check[case]].check}-{self.subject(case)}"

    def find(self, key: str) -> int | None:
        """The case with this key; None if there is none."""
        name, _, subject = key.rpartition("-")
        for places, finding in zip(self.places, self.findings, strict=True):
            if finding.check == name and subject.isascii() and subject.isdigit():
                case = places.get(int(subject[:16]))
                return case if case is not None and self.key(case) == key else None
        return None

    def subject(self, case: int) -> int:
        """The index of the flagged image or identity."""
        return int(self.findings[self.check[case]].subjects[self.position[case]])

    def image(self, case: int) -> int | None:
        """The flagged image; None for an identity."""
        is_image = self.findings[self.check[case]].subject == "image"
        return self.subject(case) if is_image else None

    def scored(self, case: int) -> ScoredSubject:
        """The subject with its numbers."""
        finding = self.findings[self.check[case]]
        return ScoredSubject(finding, int(self.position[case]), self.images, self.evaluation)

    def proposal(self, case: int) -> Proposal:
        """The proposal; if another case settles this one, the proposal of its check alone."""
        check = self.checks[self.check[case]]
        found = self.proposals.of(check, self.scored(case))
        if not found.settled_by:
            return found
        return Proposal(found.findings, tuple(check.propose_one(self.scored(case))), is_new=True)

    def _settled(self) -> tuple[np.ndarray, np.ndarray]:
        under = np.full(len(self), NONE, np.int64)
        settled = np.zeros(len(self), bool)
        pairs: dict[tuple[int, int], int] = {}
        for case in range(len(self)):
            check = self.checks[self.check[case]]
            found = self.proposals.of(check, self.scored(case))
            if found.settled_by:
                under[case] = self._case_of(found.lines[0], case)
            elif found.lines and not found.is_new:
                settled[case] = not found.is_applied
            settled[case] |= bool(found.lines) and not found.lines[0].check
            if check.merge_column and self.rival[case] >= 0 and under[case] == NONE:
                pair = sorted((int(self.identity[case]), int(self.rival[case])))
                first = pairs.setdefault((pair[0], pair[1]), case)
                under[case] = first if first != case else NONE
        return under, settled

    def _case_of(self, line: Decision, other_than: int) -> int:
        for subject in (line.image, line.identity):
            found = None if subject is None else self.find(f"{line.check}-{subject}")
            if found is not None and found != other_than:
                return found
        return NONE


def find_cases(images: ImageSet, findings: Findings, table: Sequence[Decision]) -> Cases:
    """The cases of all completed checks; ``table`` is the table of decisions.

    Raises ``UserError`` if findings cannot be read.
    """
    loaded = tuple(load_finding(findings, name) for name in findings.checks)
    positions = [np.flatnonzero(one.flagged) for one in loaded]
    subjects = [
        one.subjects[at].astype(np.int64) for one, at in zip(loaded, positions, strict=True)
    ]
    identity, rival = [], []
    for one, at, which in zip(loaded, positions, subjects, strict=True):
        identity.append(images.labels[which].astype(np.int64) if one.subject == "image" else which)
        column = one.evidence.get(check_of(one).rival_column)
        rival.append(np.full(len(at), NONE) if column is None else column[at].astype(np.int64))
    own, other = (np.concatenate([*each, np.zeros(0, np.int64)]) for each in (identity, rival))
    sizes = np.diff(images.offsets)
    begins = np.cumsum([0, *map(len, positions)]).tolist()
    return Cases(
        *(images, loaded, Proposals(table), tuple(findings.meta.evaluation)),
        check=np.repeat(np.arange(len(loaded), dtype=np.int16), list(map(len, positions))),
        position=np.concatenate([*positions, np.zeros(0, np.int64)]),
        score=np.concatenate(
            [*(f.scores[at] for f, at in zip(loaded, positions, strict=True)), np.zeros(0)]
        ).astype(np.float32),
        identity=own,
        rival=other,
        size=sizes[own] + np.where(other >= 0, sizes[other], 0),
        places=tuple(
            dict(zip(which.tolist(), range(begin, begin + len(which)), strict=True))
            for which, begin in zip(subjects, begins[:-1], strict=True)
        ),
    )


class GroupedCases:
    """Cases grouped by their identities, and by the case that settles them."""

    def __init__(self, cases: Cases) -> None:
        everyone = np.arange(len(cases))
        there = np.flatnonzero(cases.rival != NONE)
        both = np.concatenate([cases.identity, cases.rival[there]])
        self._identities = _Lookup(both, np.concatenate([everyone, there]))
        self._under = _Lookup(cases.under, everyone)

    def of(self, identity: int) -> list[int]:
        """The cases that concern an identity."""
        return self._identities.of(identity)

    def under(self, case: int) -> list[int]:
        """The cases that a case settles."""
        return self._under.of(case)


class _Lookup:
    """Finds the values ``[n]`` of a key among keys ``[n]``."""

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys, self._values = keys[order], values[order]

    def of(self, key: int) -> list[int]:
        begin, end = np.searchsorted(self._keys, [key, key + 1])
        return self._values[begin:end].tolist()
