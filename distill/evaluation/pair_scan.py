"""Cosines of all pairs of probes and gallery, or of one set with itself, a tile at a time.

A tile is one matrix product of unit features. What is wanted of the scores is kept by small
collectors (`HighestScores`, `Nearest`), so that memory is two tiles and what they keep, whatever
the number of pairs. Labels are sorted first: pairs of one identity (mates) then lie in few tiles,
and only those are masked. Runs on the GPU where there is one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

TILE = 2048
NOBODY = -1
"""The label of an image of unknown identity: it is nobody's mate."""


@dataclass(frozen=True)
class Tile:
    """Scores [R, C] of the probes in ``rows`` and the gallery in ``columns``.

    ``mates`` [R, C] marks pairs of one identity, which have -inf in ``scores``; None where there
    are none. ``mate_scores`` [M] are theirs, row by row. The tensors are overwritten by the next
    tile.
    """

    rows: slice
    columns: slice
    scores: Tensor
    mates: Tensor | None = None
    mate_scores: Tensor | None = None


class PairScan:
    """The tiles of ``probes`` [P, D] times ``gallery`` [G, D], unit features with their labels.

    ``gallery`` None is ``probes`` itself: every pair of two images comes once. ``probe_order`` and
    ``gallery_order`` [.] are the images in the order of the tiles: probes by label; of the gallery
    first those with the label of a probe, by label, then the others as they were given. At each
    of ``cuts``, places in the gallery's order, a tile ends.
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
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.probe_order = np.argsort(probe_labels, kind="stable")
        self.probe_labels = probe_labels[self.probe_order]
        self._probes = self._moved(probes[self.probe_order])
        self._tile, self._cuts = tile, sorted(cuts)
        self._itself = gallery is None or gallery_labels is None
        if gallery is None or gallery_labels is None:
            self._gallery, self.gallery_order = None, self.probe_order
            self.gallery_labels, self.mated = self.probe_labels, len(probes)
        else:
            self._gallery = gallery
            self.gallery_order, self.mated = _mated_first(gallery_labels, probe_labels)
            self.gallery_labels = gallery_labels[self.gallery_order]
        self._buffer = torch.empty(tile * tile, device=self.device)

    def tiles(self) -> Iterator[Tile]:
        """All tiles, the columns in the outer loop: the gallery is read once."""
        for columns in self._columns():
            yield from self._column(columns, only_mated=False)

    def mated_tiles(self) -> Iterator[Tile]:
        """Only the tiles with pairs of one identity."""
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
        features: Tensor | None = None
        last = columns.stop if self._itself else len(self.probe_order)
        for start in range(0, last, self._tile):
            rows = slice(start, min(start + self._tile, last))
            mated = self._have_mates(rows, columns)
            if only_mated and not mated:
                continue
            if features is None:
                features = self._gallery_features(columns)
            yield self._product(rows, columns, features, mated)

    def _product(self, rows: slice, columns: slice, features: Tensor, mated: bool) -> Tile:
        probes = self._probes[rows]
        scores = self._buffer[: len(probes) * len(features)].view(len(probes), len(features))
        torch.mm(probes, features.T, out=scores)
        mates = self._mates(rows, columns) if mated else None
        twice = None
        if self._itself and rows == columns:  # the diagonal tile has each pair twice
            twice = torch.ones_like(scores, dtype=torch.bool).tril()
            mates = mates & ~twice if mates is not None else None
        mate_scores = scores[mates] if mates is not None else None
        for hidden in (mates, twice):
            if hidden is not None:
                scores.masked_fill_(hidden, float("-inf"))
        return Tile(rows, columns, scores, mates, mate_scores)

    def _have_mates(self, rows: slice, columns: slice) -> bool:
        if columns.start >= self.mated:
            return False
        probes = self.probe_labels[rows]
        gallery = self.gallery_labels[columns.start : min(columns.stop, self.mated)]
        return bool(probes[0] <= gallery[-1] and gallery[0] <= probes[-1])

    def _mates(self, rows: slice, columns: slice) -> Tensor:
        probes = torch.from_numpy(self.probe_labels[rows]).to(self.device)
        gallery = torch.from_numpy(self.gallery_labels[columns]).to(self.device)
        return (probes[:, None] == gallery[None]) & (probes != NOBODY)[:, None]

    def _gallery_features(self, columns: slice) -> Tensor:
        if self._gallery is None:
            return self._probes[columns]
        return self._moved(self._gallery[self.gallery_order[columns]])

    def _moved(self, features: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(self.device)


def _mated_first(gallery_labels: np.ndarray, probe_labels: np.ndarray) -> tuple[np.ndarray, int]:
    """The gallery with the labels of probes by label, then the others; how many the first are."""
    known = np.isin(gallery_labels, probe_labels) & (gallery_labels != NOBODY)
    mated = np.flatnonzero(known)
    mated = mated[np.argsort(gallery_labels[mated], kind="stable")]
    return np.concatenate([mated, np.flatnonzero(~known)]), len(mated)


@dataclass(frozen=True)
class ScoredPairs:
    """Scores [N] in descending order, and the pairs' places in the scan's orders, [N] each."""

    scores: np.ndarray
    probes: np.ndarray
    gallery: np.ndarray

    def at(self, places: np.ndarray) -> "ScoredPairs":
        return ScoredPairs(self.scores[places], self.probes[places], self.gallery[places])


class HighestScores:
    """The ``count`` highest scores of pairs that are not mates, and which pairs they are.

    Memory: about 50 bytes for each of ``count``. On the CPU NumPy finds and parts scores four times
    as fast as torch.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: list[ScoredPairs] = []
        self._waiting_count = 0
        self.floor = np.float32("-inf")
        """Scores at or below it cannot be among the highest."""

    def add(self, tile: Tile, best: Tensor) -> None:
        """Offer all scores of a tile, of which ``best`` [R] are the highest of each row."""
        if not self._count:
            return
        hot = torch.nonzero(best > float(self.floor)).squeeze(1)
        if not len(hot):
            return
        scores = tile.scores if 2 * len(hot) > len(best) else tile.scores[hot]
        places, values = _above(scores, self.floor)
        rows, columns = np.divmod(places, scores.shape[1])
        if len(scores) != len(best):
            rows = hot.cpu().numpy()[rows]
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
        """The highest scores, all where fewer than ``count`` were offered."""
        if not self._waiting:
            empty = np.empty(0, np.int32)
            return ScoredPairs(np.empty(0, np.float32), empty, empty)
        self._shrink()
        (kept,) = self._waiting
        return kept.at(np.argsort(-kept.scores, kind="stable"))

    def _shrink(self) -> None:
        offered = ScoredPairs(
            np.concatenate([each.scores for each in self._waiting]),
            np.concatenate([each.probes for each in self._waiting]),
            np.concatenate([each.gallery for each in self._waiting]),
        )
        excess = len(offered.scores) - self._count
        if excess > 0:
            offered = offered.at(np.argpartition(offered.scores, excess)[excess:])
        if excess >= 0:
            self.floor = offered.scores.min()
        self._waiting, self._waiting_count = [offered], len(offered.scores)


def _above(scores: Tensor, floor: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Flat places of the scores above ``floor``, and these scores. -inf marks mates, and pairs that
    come twice; they are never above it."""
    if scores.is_cuda:
        places = torch.nonzero((scores > float(floor)).flatten()).squeeze(1)
        return places.cpu().numpy(), scores.flatten()[places].cpu().numpy()
    flat = scores.numpy().reshape(-1)
    found = np.flatnonzero(flat > floor)
    return found, flat[found]


class Nearest:
    """For each probe the ``count`` highest scores of gallery images that are not its mates.

    ``scores`` [P, count], in the scan's order of probes, descending; -inf where there are fewer.
    """

    def __init__(self, probes: int, count: int, device: torch.device) -> None:
        self.scores = torch.full((probes, count), float("-inf"), device=device)

    def add(self, tile: Tile, best: Tensor) -> None:
        """Offer all scores of a tile, of which ``best`` [R] are the highest of each row."""
        known = self.scores[tile.rows]
        better = torch.nonzero(best > known[:, -1]).squeeze(1)
        if not len(better):
            return
        count = known.shape[1]
        if count == 1:
            known[better, 0] = best[better]
            return
        offered = tile.scores[better]
        offered = offered.topk(min(count, offered.shape[1]), dim=1).values
        both = torch.cat([known[better], offered], dim=1)
        known[better] = both.topk(count, dim=1).values
