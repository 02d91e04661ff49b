"""Cosines of all pairs of probe and gallery, or of one set with itself, tile by tile.

A tile is one matrix product of unit features. Small collectors (`HighestScores`, `Nearest`) keep
the scores that matter, so memory is two tiles plus the collected scores, independent of the number
of pairs. Labels are sorted first, so that genuine pairs (mates) fall into few tiles, and only those
tiles are masked. Runs on the GPU if torch finds one, otherwise in NumPy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from distill.evaluation.score_arrays import CpuScores, GpuScores, arithmetic

TILE = 2048
NOBODY = -1
"""The label of an image with unknown identity, which has no mates."""


@dataclass(frozen=True)
class Tile:
    """Scores [R, C] of the probes in ``rows`` and the gallery images in ``columns``.

    The scores of mates are set to -inf; ``mates`` [M, 2] holds their row and column in the tile,
    row by row, and ``mate_scores`` [M] their scores; None if there are none. The next tile
    overwrites ``scores``.
    """

    rows: slice
    columns: slice
    scores: CpuScores | GpuScores
    mates: np.ndarray | None = None
    mate_scores: np.ndarray | None = None

    @cached_property
    def best(self) -> np.ndarray:
        """The highest score of each row, [R]."""
        return self.scores.best()


class Collector(Protocol):
    """Sees all scores and keeps a part or a summary of them."""

    def add(self, tile: Tile) -> None:
        """Offer all scores of a tile."""
        ...


class PairScan:
    """The tiles of ``probes`` [P, D] times ``gallery`` [G, D], unit features with labels.

    Without a ``gallery``, ``probes`` is scanned against itself, and each pair of two images occurs
    once. ``probe_order`` [P] and ``gallery_order`` [G] map positions in the scan to images. Probes
    are sorted by label. Gallery images that share a label with a probe come first, sorted by label;
    the others follow in the given order. Tiles also end at ``cuts``, positions in the gallery's
    scan order.
    """

    def __init__(
        self,
        probes: np.ndarray,
        probe_labels: np.ndarray,
        gallery: np.ndarray | None = None,
        gallery_labels: np.ndarray | None = None,
        tile: int = TILE,
        cuts: Sequence[int] = (),
    ) -> None:
        self._arithmetic = arithmetic(tile)
        self.probe_order = np.argsort(probe_labels, kind="stable")
        self.probe_labels = probe_labels[self.probe_order]
        # A store's images are already sorted by label; a copy would double the memory.
        is_ordered = bool(np.all(np.diff(probe_labels) >= 0))
        self._probes = self._arithmetic.moved(probes if is_ordered else probes[self.probe_order])
        self._tile, self._cuts = tile, sorted(cuts)
        self._itself = gallery is None or gallery_labels is None
        if gallery is None or gallery_labels is None:
            self._gallery, self.gallery_order = None, self.probe_order
            self.gallery_labels, self.mated = self.probe_labels, len(probes)
        else:
            self._gallery = gallery
            self.gallery_order, self.mated = _mated_first(gallery_labels, probe_labels)
            self.gallery_labels = gallery_labels[self.gallery_order]

    def tiles(self) -> Iterator[Tile]:
        """All tiles. Columns are the outer loop, so the gallery is read once."""
        for columns in self._columns():
            yield from self._column(columns, only_mated=False)

    def mated_tiles(self) -> Iterator[Tile]:
        """Only the tiles that can contain mates."""
        for columns in self._columns():
            if columns.start < self.mated:
                yield from self._column(columns, only_mated=True)

    def _columns(self) -> Iterator[slice]:
        length = len(self.gallery_order)
        ends = [cut for cut in self._cuts if 0 < cut < length]
        for begin, end in pairwise([0, *ends, length]):
            for start in range(begin, end, self._tile):
                yield slice(start, min(start + self._tile, end))

    def _column(self, columns: slice, only_mated: bool) -> Iterator[Tile]:
        features: Any = None
        last = columns.stop if self._itself else len(self.probe_order)
        for start in range(0, last, self._tile):
            rows = slice(start, min(start + self._tile, last))
            mated = self._have_mates(rows, columns)
            if only_mated and not mated:
                continue
            if features is None:
                features = self._gallery_features(columns)
            yield self._product(rows, columns, features, mated)

    def _product(self, rows: slice, columns: slice, features: Any, mated: bool) -> Tile:
        scores = self._arithmetic.product(self._probes[rows], features)
        mates = self._mates(rows, columns) if mated else None
        if self._itself and rows == columns:  # a diagonal tile has each pair twice
            twice = np.tri(rows.stop - rows.start, dtype=np.bool_)
            mates = mates & ~twice if mates is not None else None
            mate_scores = scores.hide(mates) if mates is not None else None
            scores.hide(twice)
        else:
            mate_scores = scores.hide(mates) if mates is not None else None
        places = None if mates is None else np.argwhere(mates)
        return Tile(rows, columns, scores, places, mate_scores)

    def _have_mates(self, rows: slice, columns: slice) -> bool:
        if columns.start >= self.mated:
            return False
        probes = self.probe_labels[rows]
        gallery = self.gallery_labels[columns.start : min(columns.stop, self.mated)]
        return bool(probes[0] <= gallery[-1] and gallery[0] <= probes[-1])

    def _mates(self, rows: slice, columns: slice) -> np.ndarray:
        probes, gallery = self.probe_labels[rows], self.gallery_labels[columns]
        return (probes[:, None] == gallery[None]) & (probes != NOBODY)[:, None]

    def _gallery_features(self, columns: slice) -> Any:
        if self._gallery is None:
            return self._probes[columns]
        return self._arithmetic.moved(_at(self._gallery, self.gallery_order[columns]))


def _at(features: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``features[places]``, without a copy if the places are consecutive."""
    first, count = int(places[0]), len(places)
    if np.array_equal(places, np.arange(first, first + count)):
        return features[first : first + count]
    return features[places]


def _mated_first(gallery_labels: np.ndarray, probe_labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Gallery indices, those with a probe's label first and sorted by it; and their number."""
    known = np.isin(gallery_labels, probe_labels) & (gallery_labels != NOBODY)
    mated = np.flatnonzero(known)
    mated = mated[np.argsort(gallery_labels[mated], kind="stable")]
    return np.concatenate([mated, np.flatnonzero(~known)]), len(mated)


@dataclass(frozen=True)
class ScoredPairs:
    """Sorted scores [N], and the positions of probe and gallery image in the scan, [N] each."""

    scores: np.ndarray
    probes: np.ndarray
    gallery: np.ndarray

    def at(self, places: np.ndarray) -> "ScoredPairs":
        return ScoredPairs(self.scores[places], self.probes[places], self.gallery[places])


class HighestScores:
    """The ``count`` highest impostor scores and their pairs.

    Memory: about 30 bytes for each of ``count``.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: list[ScoredPairs] = []
        self._waiting_count = 0
        self.floor = np.float32("-inf")
        """Scores at or below it cannot be among the highest."""

    def add(self, tile: Tile) -> None:
        """Offer all scores of a tile."""
        if not self._count:
            return
        hot = np.flatnonzero(tile.best > self.floor)
        if not len(hot):
            return
        rows, columns, values = tile.scores.above(hot, self.floor)
        self._waiting.append(
            ScoredPairs(
                values,
                (rows + tile.rows.start).astype(np.int32),
                (columns + tile.columns.start).astype(np.int32),
            )
        )
        self._waiting_count += len(values)
        if self._waiting_count >= 1.5 * self._count:
            self._shrink()

    def descending(self) -> ScoredPairs:
        """The highest scores; all scores if fewer than ``count`` were offered."""
        self._shrink()
        kept = self._waiting.pop()
        order = np.argsort(-kept.scores, kind="stable")
        self._waiting = [kept.at(order)]
        return self._waiting[0]

    def _shrink(self) -> None:
        """Keep the highest scores, in one part; of equal scores, those that were offered first."""
        count, ties = self._waiting_count, 0
        is_full = 0 < self._count <= count
        if is_full:
            excess = count - self._count
            scores = np.concatenate([each.scores for each in self._waiting])
            scores.partition(excess)
            count, self.floor = self._count, scores[excess]
            ties = count - int(np.count_nonzero(scores[excess:] > self.floor))
            del scores
        empty = [np.empty(count, each) for each in (np.float32, np.int32, np.int32)]
        kept, place = ScoredPairs(*empty), 0
        while self._waiting:  # each part is freed at once
            part = self._waiting.pop(0)
            if is_full:
                chosen = part.scores > self.floor
                equal = np.flatnonzero(part.scores == self.floor)[:ties]
                ties -= len(equal)
                chosen[equal] = True
                part = part.at(chosen)
            end = place + len(part.scores)
            kept.scores[place:end], kept.probes[place:end] = part.scores, part.probes
            kept.gallery[place:end], place = part.gallery, end
        self._waiting, self._waiting_count = [kept], count


class LowestMates:
    """The ``count`` lowest genuine scores and their pairs."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, int, int]] = []

    def add(self, tile: Tile) -> None:
        """Offer the mates' scores of a tile."""
        if tile.mates is None or tile.mate_scores is None:
            return
        lowest = np.argsort(tile.mate_scores, kind="stable")[: self._count]
        rows, columns = (tile.mates[lowest] + (tile.rows.start, tile.columns.start)).T.tolist()
        found = zip(tile.mate_scores[lowest].tolist(), rows, columns, strict=True)
        self._kept = sorted([*self._kept, *found])[: self._count]

    def ascending(self) -> ScoredPairs:
        """The lowest scores; all scores if fewer than ``count`` were offered."""
        scores, probes, gallery = zip(*self._kept, strict=True) if self._kept else ((), (), ())
        return ScoredPairs(
            np.array(scores, np.float32), np.array(probes, np.int32), np.array(gallery, np.int32)
        )


class Nearest:
    """For each probe, the ``count`` highest scores with gallery images other than its mates.

    ``scores`` [P, count] is in the scan's order of probes; each row is descending and padded with
    -inf.
    """

    def __init__(self, probes: int, count: int) -> None:
        self.scores = np.full((probes, count), -np.inf, np.float32)

    def add(self, tile: Tile) -> None:
        """Offer all scores of a tile."""
        known = self.scores[tile.rows]
        better = np.flatnonzero(tile.best > known[:, -1])
        if not len(better):
            return
        count = known.shape[1]
        if count == 1:
            known[better, 0] = tile.best[better]
            return
        both = np.concatenate([known[better], self._offered(tile, better, known[:, -1])], axis=1)
        known[better] = -np.sort(-both, axis=1)[:, :count]

    def _offered(self, tile: Tile, better: np.ndarray, floors: np.ndarray) -> np.ndarray:
        """Scores of the rows ``better`` with all that are above the ``floors`` [R], padded."""
        if np.isneginf(floors[better]).any():
            return tile.scores.highest(better, self.scores.shape[1])
        # After the first tiles few scores are above: finding them is faster than a partition.
        rows, _, values = tile.scores.above(better, floors)
        counts = np.bincount(rows, minlength=len(floors))[better]
        offered = np.full((len(better), counts.max()), -np.inf, np.float32)
        offered[np.arange(counts.max()) < counts[:, None]] = values
        return offered
