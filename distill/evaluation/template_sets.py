"""Verification and identification of templates: several images of a person as one feature."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.evaluation.bootstrap import add_rate_intervals
from distill.evaluation.curves import area_under_roc, equal_error_rate
from distill.evaluation.identification import Searches, closed_set, joined, open_set, search
from distill.evaluation.pair_scores import linked_people, listed_scores
from distill.evaluation.rates import pair_rates, plan_rates

_PAIRS = 1 << 16
"""Pairs whose features are in memory at a time"""


@dataclass(frozen=True)
class TemplateGallery:
    """Templates by index [G], and their subjects [G]."""

    templates: np.ndarray
    subjects: np.ndarray


@dataclass(frozen=True)
class VerifiedTemplates:
    """The cosines [P] of the pairs, and their report."""

    cosines: np.ndarray
    report: dict[str, Any]


def verify_templates(
    features: np.ndarray, pairs: np.ndarray, same: np.ndarray, intervals: bool
) -> VerifiedTemplates:
    """Verify ``pairs`` [P, 2] of unit ``features`` [T, D]; genuine where ``same`` [P]."""
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS):
        left, right = pairs[start : start + _PAIRS].T
        cosines[start : start + _PAIRS] = np.einsum("pd,pd->p", features[left], features[right])
    genuine, impostors = cosines[same], cosines[~same]
    report: dict[str, Any] = {
        "genuine": len(genuine),
        "impostors": len(impostors),
        "auc": area_under_roc(genuine, impostors),
        "eer": equal_error_rate(genuine, impostors),
        "tar_at_far": pair_rates(cosines, same),
    }
    if intervals:
        left, right = linked_people(pairs.ravel(), same)
        planned = plan_rates(len(genuine), len(impostors))
        scores = listed_scores(cosines, same, left, right)
        add_rate_intervals(report["tar_at_far"], planned, scores)
    return VerifiedTemplates(cosines, report)


def identify_templates(
    features: np.ndarray, probes: TemplateGallery, galleries: dict[str, TemplateGallery]
) -> tuple[dict[str, Any], dict[str, Searches]]:
    """Search each gallery for ``probes``; with several galleries, also report on ``all`` of them.

    Returns JSON by gallery, and the searches. ``all`` has the ranks over all mated searches and the
    mean FNIR of the galleries.
    """
    found = {
        name: search(
            features[probes.templates],
            probes.subjects,
            features[gallery.templates],
            gallery.subjects,
        )
        for name, gallery in galleries.items()
    }
    reports: dict[str, Any] = {
        name: {
            "enrolled": len(galleries[name].templates),
            "closed_set": closed_set(each),
            "open_set": open_set(each),
        }
        for name, each in found.items()
    }
    if len(found) > 1:
        rates = [report["open_set"]["fnir_at_fpir"] for report in reports.values()]
        fnir = {rate: [each[rate]["fnir"] for each in rates] for rate in rates[0]}
        reports["all"] = {
            "closed_set": closed_set(joined(list(found.values()))),
            "mean_fnir_at_fpir": {
                rate: None if None in each else float(np.mean(each)) for rate, each in fnir.items()
            },
        }
    return reports, found
