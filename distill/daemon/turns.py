"""Concurrent requests: they keep their order, and share writes to the disk."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

Item = TypeVar("Item")
Result = TypeVar("Result")


class RequestOrder:
    """Lets requests that are prepared concurrently take effect in the order of their arrival.

    Belongs to one event loop. Requests must also be prepared in that order; otherwise all may wait
    for one that cannot begin.
    """

    def __init__(self) -> None:
        self._given = 0
        self._under_way: dict[int, anyio.Event] = {}
        """Set when each is over; in the order in which they came"""

    @contextmanager
    def taken(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """A turn that lasts while the block runs; the yielded function waits for all earlier ones.

        Enter it when the request arrives.
        """
        self._given = number = self._given + 1
        self._under_way[number] = over = anyio.Event()
        try:
            yield partial(self._wait, number)
        finally:
            del self._under_way[number]
            over.set()

    async def _wait(self, number: int) -> None:
        while (first := next(iter(self._under_way))) != number:
            await self._under_way[first].wait()


class Batched(Generic[Item, Result]):
    """Writes all waiting items together, in the order in which they were added.

    Items added during a write wait for the next one, so that many clients share few writes.
    Belongs to one event loop.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        """``write`` returns one result per item; it runs in a thread, once at a time."""
        self._write = write
        self._waiting: list[_Added[Item, Result]] = []
        self._writing = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)

    def add(self, item: Item) -> Callable[[], Awaitable[Result]]:
        """Take the next place; the returned function waits until the item is written.

        An error of ``write`` is raised for all items of that write.
        """
        added = _Added[Item, Result](item)
        self._waiting.append(added)
        return partial(self._written, added)

    async def _written(self, added: "_Added[Item, Result]") -> Result:
        try:
            async with self._writing:
                if not added.outcome.done():
                    with anyio.CancelScope(shield=True):  # others also wait for this write
                        await self._write_all()
        finally:
            with suppress(ValueError):  # already written; else no caller waits for it any more
                self._waiting.remove(added)
        return added.outcome.result()

    async def _write_all(self) -> None:
        batch, self._waiting = self._waiting, []
        try:
            items = [each.item for each in batch]
            results = await run_sync(self._write, items, limiter=self._thread)
        except BaseException as error:
            for each in batch:
                each.outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for each, result in zip(batch, results, strict=True):
                each.outcome.set_result(result)


@dataclass(frozen=True, eq=False)
class _Added(Generic[Item, Result]):
    item: Item
    outcome: Future[Result] = field(default_factory=Future)
