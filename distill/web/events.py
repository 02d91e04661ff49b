"""Server-sent events: they tell a page that something changed, and the page reloads its parts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from distill.web.site import MOST_STREAMS, Site

LOOK_SECONDS = 1.0
_QUIET_LOOKS = 15


def changes(site: Site, look: Callable[[], object]) -> StreamingResponse:
    """Send an event whenever the value of ``look`` changes."""
    if not site.streams.acquire(blocking=False):
        raise HTTPException(503, f"{MOST_STREAMS} pages are open already; close one")
    return _Counted(site, look)


class _Counted(StreamingResponse):
    """Frees its stream slot at its end, even if the browser left before the first event."""

    def __init__(self, site: Site, look: Callable[[], object]) -> None:
        super().__init__(_events(site, look), media_type="text/event-stream")
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._site.streams.release()


async def _events(site: Site, look: Callable[[], object]) -> AsyncIterator[bytes]:
    before, quiet = await run_sync(look), 0
    yield b": here\n\n"
    while not site.ending.is_set():
        await asyncio.sleep(LOOK_SECONDS)
        now = await run_sync(look)
        quiet = quiet + 1 if now == before else 0
        if not quiet:
            yield b"data: changed\n\n"
        elif quiet % _QUIET_LOOKS == 0:
            yield b": still here\n\n"  # a keep-alive, which also detects a closed page
        before = now


def stamp(path: Path) -> object:
    """A value that changes with the file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
