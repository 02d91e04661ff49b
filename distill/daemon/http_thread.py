"""An HTTP server in its own thread, with its own event loop."""

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

_SHUTDOWN_SECONDS = 5


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an IP address and port; ``OSError`` if it is taken."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    # With an explicit protocol, asyncio sets TCP_NODELAY; small responses otherwise take 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def answering(
    app: ASGIApp,
    listener: socket.socket,
    protocol: type[H11Protocol],
    *,
    threads: int,
    name: str,
    certificate: Path | None = None,
) -> Iterator[threading.Thread]:
    """Serve ``listener`` while the block runs.

    Signals stay with the main thread. More ``threads`` would only wait for each other and for the
    queue. ``certificate`` is a PEM file that includes its key.
    """
    from anyio.to_thread import current_default_thread_limiter

    config = Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,  # invalid requests are not the daemon's problem
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ssl_certfile=certificate,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = Server(config)

    async def answer() -> None:
        current_default_thread_limiter().total_tokens = threads
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=[answer()], name=name)
    thread.start()
    try:
        yield thread
    finally:
        server.should_exit = True
        thread.join()
