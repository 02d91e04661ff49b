"""Filling a cache with the ranks of several machines, of which the first alone writes.

Locks and mapped files are trusted on one machine only: over a network file system a rank may see
a file as it was, and two that write to one page may undo each other's bytes. So the first rank
hands out the rows, by the claims that it shares with other processes, and gets the embeddings back.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from curation.progress import Progress
from teachers.embedding_cache import EmbeddingCache
from teachers.filling import PAUSE, CacheWriter, RowSource, check_embeddings
from teachers.shared_work import SharedWork

Shares = list[np.ndarray]
"""The rows of each rank: int64 ``[n]``, n = 0 where it has none."""


class Team(Protocol):
    """The ranks that fill a cache together; each calls these in the same order."""

    rank: int
    """From 0, the first"""
    ranks: int

    def from_first(self, value: Any) -> Any:
        """What the first rank gives, on all."""
        ...

    def to_first(self, value: Any) -> list[Any] | None:
        """What all ranks give, in their order, on the first; ``None`` on the others."""
        ...


def fill_with_team(
    cache: EmbeddingCache | None,
    missing: np.ndarray,
    source: RowSource,
    progress: Progress | None,
    team: Team,
) -> None:
    """Compute the rows where ``missing`` (bool [N]) is true; the first rank has it, and the cache.

    Returns on all ranks when all are on the disk. An error of any rank is raised on each.
    """
    if cache is None:
        _go_through(source, team)
    else:
        with CacheWriter(cache) as writer:
            work = SharedWork(missing, cache.table, writer.claims)
            first = _First(work, writer, progress, int(missing.sum()))
            _go_through(source, team, first)
            writer.finish()
            first.tell()
    team.from_first(None)


class _First:
    """What the first rank does beside its own share."""

    def __init__(
        self, work: SharedWork, writer: CacheWriter, progress: Progress | None, total: int
    ) -> None:
        self._work, self._writer = work, writer
        self._progress, self._total = progress, total

    def hand_out(self, ranks: int) -> Shares | None:
        """The rows of the next round; ``None`` where none are left."""
        while self._work:
            shares = [self._work.take() for _ in range(ranks)]
            if any(map(len, shares)):
                return shares
            time.sleep(PAUSE)  # other processes are at what is left
        return None

    def take_in(self, shares: Shares, made: list[Any]) -> Exception | None:
        """Write what the ranks made of their shares; what went wrong with it, or on any rank."""
        if faults := [each for each in made if isinstance(each, Exception)]:
            return faults[0]
        try:
            for rows, raw in zip(shares, made, strict=True):
                if len(rows):
                    check_embeddings(raw, rows)
                    self._writer.write(rows, raw)
            self.tell()
        except Exception as error:
            return error
        return None

    def tell(self) -> None:
        """How far all are, in the rows that are on the disk."""
        if self._progress is not None:
            self._progress(self._writer.written + self._work.by_others, self._total)


def _go_through(source: RowSource, team: Team, first: _First | None = None) -> None:
    """In each round every rank embeds a batch, while it reads that of the next round."""

    def next_shares() -> Shares | None:
        shares: Shares | None = team.from_first(first and first.hand_out(team.ranks))
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
            fault = team.from_first(first and made and first.take_in(shares, made))
            if fault is not None:
                raise fault
            shares, loading = following, ahead


def _embedded(source: RowSource, loading: Future[Any] | None) -> np.ndarray | Exception | None:
    try:
        return None if loading is None else source.embed(loading.result())
    except Exception as error:
        return error
