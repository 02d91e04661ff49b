"""The charts of one set: ROC and DET of all networks, and a histogram per network. Pure."""

from collections.abc import Mapping

import numpy as np

from distill.charts.chart import Axis, Chart, Series
from distill.evaluation.report.measured import NetworkOnSet, bar_edges

_LEAST_SPAN = 0.02
"""Smallest range of the axis of true-accept rates"""
_MOST_WHISKERS, _BESIDE = 5, 0.07
"""The most networks with drawn intervals, and the offset between them, in powers of ten"""


def roc(name: str, measured: Mapping[str, NetworkOnSet], colours: Mapping[str, int]) -> Chart:
    """True-accept rate over false-accept rate, which has a logarithmic axis."""
    found = _with_curves(measured)
    lowest = min(float(each.tar.min()) for each in found.values())
    low = max(0.0, min(lowest, 1 - _LEAST_SPAN))
    return Chart(
        f"{name}: ROC",
        _far_axis(found),
        Axis("true-accept rate", low, 1),
        [
            Series(model, each.far, each.tar, colours[model], whiskers=_whiskers(measured, model))
            for model, each in found.items()
        ],
    )


def det(name: str, measured: Mapping[str, NetworkOnSet], colours: Mapping[str, int]) -> Chart:
    """False-reject rate over false-accept rate, both on logarithmic axes."""
    found = _with_curves(measured)
    frrs = np.concatenate([1 - each.tar for each in found.values()])
    lowest = frrs[frrs > 0].min(initial=0.1)
    series = []
    for model, each in found.items():
        some = each.tar < 1  # a logarithmic axis has no 0
        series.append(Series(model, each.far[some], 1 - each.tar[some], colours[model]))
    y = Axis("false-reject rate", float(lowest), max(1.0, 10 * float(lowest)), is_log=True)
    return Chart(f"{name}: DET", _far_axis(found), y, series)


def histogram(name: str, model: str, measured: NetworkOnSet) -> Chart:
    """Shares of genuine and impostor pairs by score, with the measured thresholds."""
    assert measured.genuine is not None
    assert measured.impostors is not None
    edges = bar_edges()
    x = np.repeat(edges, 2)[1:-1]
    both = [np.repeat(each, 2) for each in (measured.impostors, measured.genuine)]
    shown = np.flatnonzero((measured.impostors > 0) | (measured.genuine > 0))
    low, high = float(edges[shown[0]]), float(edges[shown[-1] + 1])
    thresholds = {
        rate: each["cosine_threshold"]
        for rate, each in measured.report["tar_at_far"].items()
        if each["cosine_threshold"] is not None and low <= each["cosine_threshold"] <= high
    }
    lines = f" (lines: thresholds of FAR {', '.join(thresholds)})" if thresholds else ""
    return Chart(
        f"{name}: scores of {model}",
        Axis(f"cosine{lines}", low, high),
        Axis("share of the pairs", 0, 1.05 * float(max(each.max() for each in both))),
        [
            Series("impostor pairs", x, both[0], 1, is_filled=True),
            Series("genuine pairs", x, both[1], 0, is_filled=True),
        ],
        edges=list(thresholds.values()),
    )


def _with_curves(measured: Mapping[str, NetworkOnSet]) -> dict:
    return {
        model: each.curve
        for model, each in measured.items()
        if each.curve is not None and len(each.curve.far)
    }


def _far_axis(curves: Mapping) -> Axis:
    lowest = min(float(each.far.min()) for each in curves.values())
    return Axis("false-accept rate", min(lowest, 0.1), 1, is_log=True)


def _whiskers(measured: Mapping[str, NetworkOnSet], model: str) -> list[tuple[float, float, float]]:
    """The intervals of the measured rates, shifted sideways so that networks do not overlap."""
    if len(measured) > _MOST_WHISKERS:
        return []
    shift = 10 ** (_BESIDE * (list(measured).index(model) - (len(measured) - 1) / 2))
    return [
        (float(rate) * shift, *each["interval"])
        for rate, each in measured[model].report["tar_at_far"].items()
        if each.get("interval") is not None
    ]
