"""Comparison of several jobs or bundles: which is best at what. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One job or bundle; missing and impossible values are left out."""

    name: str
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By set and measure; higher is better. ``std`` is the standard deviation of ``accuracy``."""
    intervals: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    """The 95 % intervals (lowest, highest) of the figures that have one"""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests of the sets"""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the deployed files; lower is better"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of all subjects, in order."""

    measure: str
    values: list[float | None]
    deviations: list[float | None]
    best: list[int]
    """Indices of the best; empty if all are equal or cannot be compared"""
    comparable: bool = True
    """Whether all were measured on the same set"""
    intervals: list[list[float] | None] = field(default_factory=list)
    """95 % intervals of all subjects in order; empty for measures without intervals"""


def compare(subjects: Sequence[Subject]) -> list[Row]:
    """All measures that any subject has: scores by set, then sizes."""
    return [*_scores(subjects), *_sizes(subjects)]


def figures_of(report: Any) -> dict[str, float]:
    """Accuracy with its deviation, and TAR at each FAR, from an untrusted report of one set."""
    if not isinstance(report, dict):
        return {}
    figures = {key: report[key] for key in ("accuracy", "std") if _is_share(report.get(key))}
    rates = report.get("tar_at_far")
    for rate, measured in (rates if isinstance(rates, dict) else {}).items():
        tar = measured.get("tar") if isinstance(measured, dict) else None
        if _is_share(tar):
            figures[f"FAR {rate}"] = tar
    return figures


def intervals_of(report: Any) -> dict[str, list[float]]:
    """The 95 % intervals of `figures_of`, from an untrusted report; empty for older ones."""
    if not isinstance(report, dict):
        return {}
    rates = report.get("tar_at_far")
    found = {"accuracy": report.get("accuracy_interval")}
    for rate, measured in (rates if isinstance(rates, dict) else {}).items():
        found[f"FAR {rate}"] = measured.get("interval") if isinstance(measured, dict) else None
    return {
        name: each
        for name, each in found.items()
        if isinstance(each, list) and len(each) == 2 and all(map(_is_share, each))
    }


def _is_share(value: Any) -> bool:
    """Whether it is a rate from 0 to 1; a larger number may have hundreds of digits."""
    return isinstance(value, float) and 0 <= value <= 1


def _scores(subjects: Sequence[Subject]) -> Iterator[Row]:
    for name in dict.fromkeys(each for subject in subjects for each in subject.figures):
        scored = [subject.figures.get(name, {}) for subject in subjects]
        digests = {subject.digests[name] for subject in subjects if name in subject.digests}
        measures = dict.fromkeys(key for figures in scored for key in figures if key != "std")
        for measure in sorted(measures, key=lambda key: (key.startswith("FAR"), key)):
            values = [figures.get(measure) for figures in scored]
            spread = [figures.get("std") for figures in scored]
            shown = f"TAR at {measure}" if measure.startswith("FAR") else measure
            yield Row(
                measure=f"{name}: {shown}",
                values=values,
                deviations=spread if measure == "accuracy" else [None] * len(values),
                best=_best(values, max) if len(digests) < 2 else [],
                comparable=len(digests) < 2,
                intervals=[each.intervals.get(name, {}).get(measure) for each in subjects],
            )


def _sizes(subjects: Sequence[Subject]) -> Iterator[Row]:
    for name in dict.fromkeys(each for subject in subjects for each in subject.sizes):
        values = [subject.sizes.get(name) for subject in subjects]
        yield Row(
            measure=f"{name}: bytes",
            values=[*values],
            deviations=[None] * len(values),
            best=_best(values, min),
        )


def _best(values: Sequence[float | None], choose: Any) -> list[int]:
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return []
    best = choose(known)
    return [place for place, value in enumerate(values) if value == best]
