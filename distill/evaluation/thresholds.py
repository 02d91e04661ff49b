"""Recommended thresholds for deployment: the cosine for each false-accept rate."""

from typing import TypeVar

import numpy as np

from distill.evaluation.rates import EXPONENTS

Distance = TypeVar("Distance", float, np.ndarray)

FACES = ("pairs", "all-pairs")
"""The kinds of sets that compare two images; templates need other thresholds."""
NOTE = (
    "Thresholds move with the population, the camera and quantisation: "
    "measure again on images like those the network will see."
)


def cosine_of(distance: Distance) -> Distance:
    """The cosine of unit vectors at a squared L2 distance: ``1 - d / 2``."""
    return 1 - distance / 2


def recommended_thresholds(reports: dict) -> dict:
    """For each FAR, the threshold of the set that measures it with the most impostor pairs. ::

        {"distance": "cosine", "rule": "same person where cosine > threshold", "note": ...,
         "false_accept_rates": {"1e-3": {"threshold", "tar", "set", "digest", "genuine",
                                         "impostors", "interval", "threshold_interval"}
                                or null, ...},
         "best_accuracy": {"threshold", "accuracy", "tar", "far", "set", "digest", "genuine",
                           "impostors", "accuracy_interval"} or null}

    ``reports`` is ``sets`` in the result of `evaluate`. A FAR for which no set is large enough is
    null. The best accuracy is null if no set has an accuracy better than chance.
    """
    return {
        "distance": "cosine",
        "rule": "same person where cosine > threshold",
        "note": NOTE,
        "false_accept_rates": {
            f"1e-{exponent}": _at_rate(reports, f"1e-{exponent}") for exponent in EXPONENTS
        },
        "best_accuracy": _best_accuracy(reports),
    }


def _at_rate(reports: dict, rate: str) -> dict | None:
    measured = {
        name: report
        for name, report in reports.items()
        if report["kind"] in FACES and report["tar_at_far"][rate]["cosine_threshold"] is not None
    }
    if not measured:
        return None
    name = max(measured, key=lambda name: measured[name]["impostors"])
    report = measured[name]
    return {
        "threshold": report["tar_at_far"][rate]["cosine_threshold"],
        "tar": report["tar_at_far"][rate]["tar"],
        "set": name,
        "digest": report["digest"],
        "genuine": report["genuine"],
        "impostors": report["impostors"],
        "interval": report["tar_at_far"][rate].get("interval"),
        "threshold_interval": report["tar_at_far"][rate].get("threshold_interval"),
    }


def _best_accuracy(reports: dict) -> dict | None:
    """The ten-fold threshold of the largest set of pairs with one; the first of equal sets."""
    told_apart = {name: report for name, report in reports.items() if _tells_apart(report)}
    if not told_apart:
        return None
    name = max(told_apart, key=lambda name: told_apart[name]["pairs"])
    report = told_apart[name]
    return {
        "threshold": report["cosine_threshold"],
        "accuracy": report["accuracy"],
        "tar": report.get("tar"),
        "far": report.get("far"),
        "set": name,
        "digest": report["digest"],
        "genuine": report["genuine"],
        "impostors": report["impostors"],
        "accuracy_interval": report.get("accuracy_interval"),
    }


def _tells_apart(report: dict) -> bool:
    """Whether the accuracy is better than that of the same answer for all pairs."""
    if report["kind"] != "pairs" or report["accuracy"] is None:
        return False
    return report["accuracy"] > max(report["genuine"], report["impostors"]) / report["pairs"]
