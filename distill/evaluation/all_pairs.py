"""TAR at low FAR over *all* pairs of a set of images, exact, without ever holding them.

The pairs are cosines of unit features, computed in square tiles. Impostor pairs: one pass over the
upper triangle keeps only the highest scores, as many as the largest measured FAR allows. Genuine
pairs lie within identities, of which a second pass counts those above each threshold. Memory is the
features, one tile and the kept scores, whatever the number of pairs.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from curation.progress import Progress
from distill.evaluation.features import why_broken
from distill.evaluation.rates import Rate, no_rates, plan_rates, rate_report, thresholds_of

TILE = 2048
MAXIMUM_KEPT = 50_000_000
"""Kept impostor scores, float32: at most twice this many are in memory, 400 MB."""


def all_pairs(
    features: np.ndarray, labels: np.ndarray, progress: Progress | None = None, tile: int = TILE
) -> dict:
    """Verify every pair of images: unit ``features`` [N, D] with identity ``labels`` [N].

    Returns JSON: numbers of ``images``, ``identities``, ``genuine`` and ``impostors`` pairs, and
    ``tar_at_far`` as `rates.rate_report` describes, null with the reason where a feature is not of
    unit length. Runs on the GPU where there is one.
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    genuine = _genuine_pairs(sizes)
    impostors = len(labels) * (len(labels) - 1) // 2 - genuine
    if broken := why_broken(features):
        rates = no_rates(broken)
    else:
        planned = plan_rates(genuine, impostors, MAXIMUM_KEPT)
        rates = _rates(features[order], sizes, planned, progress, tile)
    return {
        "images": len(labels),
        "identities": len(sizes),
        "genuine": genuine,
        "impostors": impostors,
        "tar_at_far": rates,
    }


def _rates(
    features: np.ndarray,
    sizes: np.ndarray,
    rates: list[Rate],
    progress: Progress | None,
    tile: int,
) -> dict:
    """`rates.rate_report` of features [N, D] of identities of these ``sizes``, in order."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Sorted, an identity is a range and most tiles have no genuine pair to mask.
    ordered = torch.from_numpy(features).to(device)
    identities = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(device)
    highest = _highest_impostors(ordered, identities, _needed(rates), progress, tile)
    thresholds = thresholds_of(rates, highest.cpu().numpy())
    tars = _count_genuine(ordered, sizes, thresholds, tile) / max(_genuine_pairs(sizes), 1)
    return rate_report(rates, thresholds, tars.tolist())


def _genuine_pairs(sizes: np.ndarray) -> int:
    """How many pairs lie within identities of these sizes."""
    return int(np.sum(sizes * (sizes - 1) // 2))


def _needed(rates: list[Rate]) -> int:
    """How many impostor scores decide every measured rate: the next after the last allowed."""
    return max((rate.allowed + 1 for rate in rates if rate.reason is None), default=0)


def _highest_impostors(
    features: Tensor, identities: Tensor, needed: int, progress: Progress | None, tile: int
) -> Tensor:
    """The ``needed`` highest cosines of pairs of different identities, descending."""
    best = HighestScores(needed, features.device)
    if needed:
        for rows, columns in _upper_tiles(len(features), tile):
            scores = features[rows] @ features[columns].T
            best.add(scores[_impostors(identities, rows, columns) & (scores > best.floor)])
            if progress:
                progress(rows.stop, len(features))
    return best.descending()


def _impostors(identities: Tensor, rows: slice, columns: slice) -> Tensor:
    """Which pairs of a tile are of two identities; a diagonal tile gives each pair once."""
    different = identities[rows, None] != identities[None, columns]
    return different.triu() if rows == columns else different


def _upper_tiles(length: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """Square tiles that cover every pair once, the diagonal ones with both orders."""
    starts = range(0, length, tile)
    for top in starts:
        for left in starts[top // tile :]:
            yield slice(top, min(top + tile, length)), slice(left, min(left + tile, length))


def _count_genuine(
    features: Tensor, sizes: np.ndarray, thresholds: list[float], tile: int
) -> np.ndarray:
    """How many genuine pairs lie above each threshold, int64 ``[len(thresholds)]``."""
    counts = np.zeros(len(thresholds), np.int64)
    if not thresholds:
        return counts
    for start, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True):
        person = features[start : start + size]
        for rows, columns in _upper_tiles(int(size), tile):
            scores = person[rows] @ person[columns].T
            if rows == columns:
                scores = scores[torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)]
            counts += [int((scores > threshold).sum()) for threshold in thresholds]
    return counts


class HighestScores:
    """The ``count`` highest of many scores, in memory for twice that many and one tile."""

    def __init__(self, count: int, device: torch.device | str = "cpu") -> None:
        self._count = count
        self._kept = torch.empty(0, device=device)
        self._waiting: list[Tensor] = []
        self._waiting_count = 0
        self.floor = float("-inf")
        """Scores at or below it cannot be among the highest; offering them is allowed."""

    def add(self, scores: Tensor) -> None:
        """Offer a flat tensor of scores."""
        self._waiting.append(scores)
        self._waiting_count += len(scores)
        if self._waiting_count >= max(self._count, 1):
            self._shrink()

    def descending(self) -> Tensor:
        """The highest scores, all where fewer than ``count`` were offered."""
        self._shrink()
        return self._kept.sort(descending=True).values

    def _shrink(self) -> None:
        scores = torch.cat([self._kept, *self._waiting])
        self._waiting, self._waiting_count = [], 0
        self._kept = scores.topk(min(self._count, len(scores)), sorted=False).values
        if self._count and len(self._kept) == self._count:
            self.floor = float(self._kept.min())
