"""Recall and precision of the checks on the planted faults."""

from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.findings import Finding, Findings
from curation.sample.ground_truth import TRUTH_FILE, Truth


@dataclass(frozen=True)
class CheckScore:
    """The result of one check against the ground truth."""

    check: str
    planted: int
    flagged: int
    """Flags on this fault or on none; flags on other planted faults do not count"""
    right: int

    def __str__(self) -> str:
        precision = "-" if self.precision is None else f"{self.precision:.2f}"
        recall = "-" if self.recall is None else f"{self.recall:.2f}"
        return (
            f"{self.right} of {self.planted} planted faults found, {self.flagged} flagged: "
            f"precision {precision}, recall {recall}"
        )

    @property
    def precision(self) -> float | None:
        """Share of the flags that are right; None without flags."""
        return self.right / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        """Share of the planted faults that were found; None if none were planted."""
        return self.right / self.planted if self.planted else None


def score_findings(findings: Findings, images: ImageSet, truth: Truth) -> list[CheckScore]:
    """The scores of all checks whose faults were planted; ``images`` is the sample's own store."""
    planted_faults = {
        "misplaced": _images(images, truth.mislabelled),
        "mixed": _identities(images, [one.label for one in truth.mixed_identities]),
        "divided": _identities(images, [k for one in truth.split_people for k in one.labels]),
        "duplicate": _repeated(findings, images, truth),
        "unusable": _images(images, [one.key for one in truth.non_faces]),
    }
    return [
        _score(findings.load(name), planted, _other_faults(name, images, truth))
        for name, planted in planted_faults.items()
        if name in findings.checks
    ]


def _score(finding: Finding, planted: set[int], neutral: set[int]) -> CheckScore:
    flagged = set(finding.subjects[finding.flagged].tolist())
    right = flagged & planted
    return CheckScore(finding.check, len(planted), len(flagged - (neutral - planted)), len(right))


def _images(images: ImageSet, keys: "tuple[int, ...] | list[int]") -> set[int]:
    return set(np.flatnonzero(np.isin(images.source_keys, list(keys))).tolist())


def _identities(images: ImageSet, labels: list[int]) -> set[int]:
    return set(np.flatnonzero(np.isin(images.source_labels, labels)).tolist())


def _repeated(findings: Findings, images: ImageSet, truth: Truth) -> set[int]:
    """One image of each duplicate pair: the one the check flags, since either may be the copy."""
    flagged: set[int] = set()
    if "duplicate" in findings.checks:
        finding = findings.load("duplicate")
        flagged = set(finding.subjects[finding.flagged].tolist())
    at = {int(key): row for row, key in enumerate(images.source_keys)}
    repeated = set()
    for pair in (*truth.exact_duplicates, *truth.near_duplicates):
        if not {pair.original, pair.key} <= at.keys():
            raise UserError(
                f"{TRUTH_FILE} names the images {pair.original} and {pair.key}, which "
                f"{images.path} does not have; draw the sample again"
            )
        repeated.add(at[pair.original if at[pair.original] in flagged else pair.key])
    return repeated


def _other_faults(check: str, images: ImageSet, truth: Truth) -> set[int]:
    """Subjects with another planted fault, whose flags are not false alarms."""
    if check in ("misplaced", "unusable"):
        strange = [image.key for image in truth.images if image.fault is not None]
        return _images(images, strange)
    return set()
