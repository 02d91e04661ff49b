"""`curate review`: serves the review of one image set on its own."""

import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response

from curation.errors import UserError
from curation.review.progress import ReviewProgress
from curation.workspace import Workspace
from distill.daemon.connections import BoundedProtocol
from distill.daemon.http_thread import answering, listening
from distill.web.app import answer_errors
from distill.web.guard import Guard
from distill.web.keys import Keys, workspace_token
from distill.web.review.reviews import Reviews
from distill.web.routes import review, sign_in, static
from distill.web.site import PageMaker

PORT = 8643
_HOST = "127.0.0.1"
_NAME = "here"
_THREADS = 8


def serve_review(
    path: Path, workspace: Workspace, port: int | None, ready: Callable[[str], None]
) -> ReviewProgress:
    """Serve until INT, TERM or HUP; calls ``ready`` with a one-time sign-in link.

    If ``port`` is None, uses the default port, or any free one. Returns the progress at the end.
    Raises ``UserError`` if there is nothing to review, or the port is in use.
    """
    reviews = Reviews(lambda name: path)
    reviews.open(_NAME)  # loads it before a browser waits for it
    workspace.daemon.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = Keys(workspace_token(workspace.daemon), secrets.token_urlsafe(16))
    with _listener(port) as listener:
        url = f"http://{_HOST}:{listener.getsockname()[1]}"
        app = _application(reviews, keys, workspace, url)
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before other threads start
        with answering(app, listener, BoundedProtocol, threads=_THREADS, name="review"):
            ready(f"{url}/sign-in?link={keys.link()}&to=/review%3Fset%3D{_NAME}")
            signal.sigwait(signals)
    return reviews.open(_NAME).progress()


def _application(reviews: Reviews, keys: Keys, workspace: Workspace, url: str) -> Guard:
    cookie = sign_in.cookie_name(workspace)
    app, pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), PageMaker()
    app.include_router(sign_in.router(pages, keys, cookie, secure=False))
    app.include_router(static.router(pages))
    app.include_router(review.router(reviews, pages, ""))

    @app.get("/")
    def first() -> Response:
        return RedirectResponse(f"/review?set={_NAME}", 303)

    answer_errors(app, pages, workspace)
    port = url.rpartition(":")[2]
    origins = frozenset({url, f"http://localhost:{port}"})
    return Guard(app, keys, origins, cookie, secure=False)


def _listener(port: int | None) -> socket.socket:
    try:
        return listening(_HOST, PORT if port is None else port)
    except OSError as error:
        if port is not None:
            raise UserError(f"--port {port}: {error.strerror}; choose another, or 0") from None
    return listening(_HOST, 0)
