"""Filling a cache with the ranks of several machines, of which only the first rank writes.

Locks and mapped files are reliable on one machine only. On a network file system a rank may see a
stale file, and two ranks that write to one page may overwrite each other. The first rank therefore
hands out the rows, using claims shared with other processes, and receives the embeddings.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from curation.progress import Progress
from teachers.embedding_cache import EmbeddingCache
from teachers.filling import PAUSE, CacheWriter, RowSource
from teachers.shared_work import SharedWork

Shares = list[np.ndarray]
"""The rows of each rank: int64 ``[n]``, n = 0 if it has none"""


class Team(Protocol):
    """The ranks that fill a cache together; all call these methods in the same order."""

    rank: int
    """0 for the first rank"""
    ranks: int

    def from_first(self, value: Any) -> Any:
        """The first rank's ``value``, on all ranks."""
        ...

    def to_first(self, value: Any) -> list[Any] | None:
        """All ranks' values in rank order, on the first rank; ``None`` on the others."""
        ...


def fill_with_team(
    cache: EmbeddingCache | None,
    missing: np.ndarray,
    source: RowSource,
    progress: Progress | None,
    team: Team,
) -> None:
    """Compute the rows where ``missing`` (bool [N]) is true; only the first rank has the cache.

    Returns on all ranks when all rows are on disk. An error on any rank is raised on all.
    """
    if cache is None:
        _go_through(source, team)
    else:
        with CacheWriter(cache) as writer:
            work = SharedWork(missing, cache.table, writer.claims)
            first = _First(work, writer, progress, int(missing.sum()))
            _go_through(source, team, first)
            writer.finish()
            first.report()
    team.from_first(None)


class _First:
    """The first rank's work besides its own share."""

    def __init__(
        self, work: SharedWork, writer: CacheWriter, progress: Progress | None, total: int
    ) -> None:
        self._work, self._writer = work, writer
        self._progress, self._total = progress, total

    def hand_out(self, ranks: int) -> Shares | None:
        """The rows of the next round; ``None`` if none are left."""
        while self._work:
            shares = [self._work.take() for _ in range(ranks)]
            if any(map(len, shares)):
                return shares
            time.sleep(PAUSE)  # other processes work on the rest
        return None

    def take_in(self, shares: Shares, made: list[Any]) -> Exception | None:
        """Write the ranks' results; returns an error from writing or from any rank."""
        if faults := [each for each in made if isinstance(each, Exception)]:
            return faults[0]
        try:
            for rows, raw in zip(shares, made, strict=True):
                if len(rows):
                    self._writer.write(rows, raw)
            self.report()
        except Exception as error:
            return error
        return None

    def report(self) -> None:
        """Report the progress of all processes, in rows on disk."""
        if self._progress is not None:
            self._progress(self._writer.written + self._work.by_others, self._total)


def _go_through(source: RowSource, team: Team, leader: _First | None = None) -> None:
    """In each round, every rank embeds one batch while it loads the next."""

    def next_shares() -> Shares | None:
        shares: Shares | None = team.from_first(leader and leader.hand_out(team.ranks))
        return shares

    with ThreadPoolExecutor(1, "load") as loader:

        def load(shares: Shares | None) -> Future[Any] | None:
            if shares is None or not len(shares[team.rank]):
                return None
            return loader.submit(source.load, shares[team.rank])

        shares = next_shares()
        loading = load(shares)
        while shares is not None:
            following = next_shares()
            ahead = load(following)
            made = team.to_first(_embedded(source, loading))
            fault = team.from_first(leader and made and leader.take_in(shares, made))
            if fault is not None:
                raise fault
            shares, loading = following, ahead


def _embedded(source: RowSource, loading: Future[Any] | None) -> np.ndarray | Exception | None:
    try:
        return None if loading is None else source.embed(loading.result())
    except Exception as error:
        return error
