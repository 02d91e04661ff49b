"""The progress of a review."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from curation.review.cases import Cases
from curation.review.standing import Standing


@dataclass(frozen=True)
class ReviewProgress:
    """Counts of cases. ``cases = decided + unsure + settled + open``."""

    cases: int
    decided: int
    """Accepted, rejected or changed"""
    unsure: int
    settled: int
    """By decisions on other cases, or by an edited line in the table"""
    open: int
    choices: dict[str, int]
    reviewers: dict[str, int]
    """Number decided by each reviewer"""
    open_of_check: dict[str, int]
    conflicts: int
    set_aside: int
    """Events on other findings"""


def measured_progress(cases: Cases, standing: Standing, is_open: np.ndarray) -> ReviewProgress:
    """The counts, where ``is_open`` bool ``[C]`` marks the undecided cases."""
    decided = [event for event in standing.decided() if cases.find(event.case) is not None]
    choices = Counter(str(event.choice) for event in decided)
    unsure, left = choices["unsure"], int(is_open.sum())
    by_check = np.bincount(cases.check[is_open], minlength=len(cases.findings))
    names = [one.check for one in cases.findings]
    return ReviewProgress(
        cases=len(cases),
        decided=len(decided) - unsure,
        unsure=unsure,
        settled=len(cases) - len(decided) - left,
        open=left,
        choices=dict(sorted(choices.items())),
        reviewers=dict(Counter(event.who for event in decided).most_common()),
        open_of_check=dict(zip(names, by_check.tolist(), strict=True)),
        conflicts=len(standing.conflicts()),
        set_aside=standing.set_aside,
    )
