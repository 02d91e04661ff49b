"""All pages as one application, behind the guard."""

import sqlite3
from collections.abc import Callable, Sequence
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from curation.errors import UserError
from curation.faults import requirement
from curation.workspace import Workspace
from distill.daemon.api import create_app, status_of, unusable
from distill.daemon.problems import problem
from distill.web.guard import Guard
from distill.web.keys import Keys
from distill.web.review.reviews import Reviews
from distill.web.routes import api_page, compare, curves, data, job, queue, review, sign_in, static
from distill.web.site import PageMaker, Site

ROUTERS: Sequence[Callable[[Site], APIRouter]] = (
    static.router,
    queue.router,
    job.router,
    curves.router,
    compare.router,
    data.router,
    api_page.router,
)


def create_pages(site: Site, keys: Keys, origins: frozenset[str], secure: bool) -> Guard:
    """The pages, and below ``/api`` the daemon's API, which the pages use for every change."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    cookie = sign_in.cookie_name(site.workspace)
    app.include_router(sign_in.router(site, keys, cookie, secure))
    for router in ROUTERS:
        app.include_router(router(site))
    app.include_router(review.router(Reviews(site.workspace.image_set), site, "/"))
    app.mount("/api", create_app(site.service, site.slots))
    answer_errors(app, site, site.workspace)
    return Guard(app, keys, origins, cookie, secure)


def answer_errors(app: FastAPI, pages: PageMaker, workspace: Workspace) -> None:
    """Report errors as a page to a person, as one line of JSON to a program."""

    def answer(request: Request, status: int, why: str) -> Response:
        """A page for a person; one line of JSON for a program and for fragments of a page."""
        is_page = "text/html" in request.headers.get("accept", "")
        if is_page and "hx-request" not in request.headers:
            return pages.page("error.html", status, status=status, why=why)
        return problem(why, status)

    @app.exception_handler(UserError)
    def refuse(request: Request, error: UserError) -> Response:
        return answer(request, status_of(error), str(error))

    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(OSError)
    def unavailable(request: Request, error: sqlite3.Error | OSError) -> Response:
        return answer(request, *unusable(workspace, error))

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:80]
        routing = {404: f"there is no page {path}", 405: f"{path} does not take {request.method}"}
        is_ours = error.detail != HTTPStatus(error.status_code).phrase
        why = error.detail if is_ours else routing.get(error.status_code, error.detail)
        return answer(request, error.status_code, why)

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> Response:
        faults = [f"{fault['loc'][-1]}: {requirement(fault)}" for fault in error.errors()[:3]]
        return answer(request, 422, "; ".join(faults))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        """An internal error; the log has the traceback."""
        return answer(request, 500, "internal server error; see the end of the daemon's log")

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has disconnected
