"""Checks lists of people and distractors before anything is embedded."""

from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.labels import UNLABELLED
from distill.evaluation.rates import plan_rates


def check_labels(labels: np.ndarray, path: Path) -> None:
    """Raise `UserError` if ``labels`` [N] give no TAR at any FAR; -1 marks a distractor."""
    if (labels < UNLABELLED).any():
        raise UserError(
            f"{path}: {labels.min()} is not a label; allowed: -1 for a distractor, 0 and above"
        )
    people = labels[labels != UNLABELLED]
    sizes = np.unique(people, return_counts=True)[1]
    genuine = int(np.sum(sizes * (sizes - 1) // 2))
    own = len(people) * (len(people) - 1) // 2 - genuine
    rates = plan_rates(genuine, own + len(people) * (len(labels) - len(people)))
    if all(rate.reason is not None for rate in rates):
        raise UserError(f"{path}: no TAR can be measured at any FAR: {rates[0].reason}")
