"""Serves the pages while a daemon runs: their listener, their thread, their published address."""

import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import UserError
from distill.daemon.connections import BoundedProtocol
from distill.daemon.http_thread import answering, listening
from distill.daemon.processes import ProcessIdentity
from distill.daemon.server import Pages
from distill.daemon.service import JobService
from distill.web.address import WebAddress, announced
from distill.web.app import create_pages
from distill.web.keys import Keys, workspace_token
from distill.web.settings import WebSettings
from distill.web.site import Site

_log = logging.getLogger("distill.daemon")

_THREADS = 8
"""Threads that render pages and read images"""


def pages(settings: WebSettings) -> Pages:
    """The value that `distill.daemon.server.serve` needs to serve the pages too."""

    @contextmanager
    def serving(service: JobService, slots: int) -> Iterator[None]:
        token = workspace_token(service.workspace.daemon)
        with _listener(settings) as listener:
            port = listener.getsockname()[1]
            site = Site(service=service, slots=slots)
            me = ProcessIdentity.of(os.getpid())
            assert me is not None
            start = secrets.token_urlsafe(16)
            keys = Keys(token, start)
            url = _url(settings, port)
            address = WebAddress(url=url, process=me, start=start, proof=keys.proof())
            app = create_pages(site, keys, _origins(settings, port), settings.is_secure)
            thread = answering(
                app,
                listener,
                BoundedProtocol,
                threads=_THREADS,
                name="pages",
                certificate=settings.certificate,
            )
            with thread, announced(service.workspace, address):
                _log.info("pages at %s; `distill open` opens them", address.url)
                try:
                    yield
                finally:
                    site.ending.set()

    return serving


def _listener(settings: WebSettings) -> socket.socket:
    try:
        return listening(settings.host, settings.port)
    except OSError as error:
        if not settings.any_port:
            raise UserError(
                f"--web-address {settings.host}:{settings.port}: {error.strerror}; choose another "
                "port, or 0 for any that is free"
            ) from None
    return listening(settings.host, 0)


def _url(settings: WebSettings, port: int) -> str:
    """The address that browsers show."""
    if settings.url is not None:
        return settings.url
    host = ipaddress.ip_address(settings.host)
    if host.is_unspecified:  # all addresses of the machine
        name = socket.gethostname().lower()
    else:
        name = f"[{host}]" if host.version == 6 else str(host)
    return f"{'https' if settings.certificate else 'http'}://{name}:{port}"


def _origins(settings: WebSettings, port: int) -> frozenset[str]:
    """The schemes, names and ports that browsers may use in requests."""
    scheme = "https" if settings.certificate else "http"
    here = [f"{scheme}://{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
    return frozenset({_url(settings, port), *here})
