"""The HTTP API on the daemon's socket; `GET /openapi.json` describes it."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from curation.errors import UserError
from curation.faults import requirement
from curation.files import DISK_ERRORS, disk_error
from curation.workspace import QUEUE_FILE, Workspace
from distill import __version__
from distill.daemon.api_reports import Problem, Reporting
from distill.daemon.api_routes import (
    action_routes,
    daemon_routes,
    job_routes,
    listing_routes,
    log_routes,
)
from distill.daemon.api_submit import SubmitEndpoint, TooLargeError, submit_routes
from distill.daemon.problems import problem
from distill.daemon.queue_file import is_damage, no_space, trouble
from distill.daemon.refusals import ConflictError, UnknownJobError
from distill.daemon.service import JobService

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No job has this name."},
    409: {"model": Problem, "description": "The job's state does not allow it."},
    413: {"model": Problem, "description": "Too large for a job spec."},
    422: {"model": Problem, "description": "The request is malformed."},
    503: {"model": Problem, "description": "The queue cannot be read or written at the moment."},
    507: {"model": Problem, "description": "The disk is full or failing."},
}


def create_app(service: JobService, slots: int) -> FastAPI:
    """The API of one workspace's jobs."""
    app = FastAPI(
        title="distill daemon",
        version=__version__,
        responses=_PROBLEMS,
        docs_url=None,  # they load third-party scripts; `distill serve --web` has a page
        redoc_url=None,
        dependencies=[Depends(_check_parameters)],
    )
    _answer_errors(app, service.workspace)
    reports = Reporting(service, slots)
    app.include_router(daemon_routes(service, reports))
    app.include_router(listing_routes(service, reports))
    app.include_router(submit_routes(SubmitEndpoint(service, reports)))
    app.include_router(job_routes(service, reports))
    app.include_router(action_routes(service, reports))
    app.include_router(log_routes(service))
    return app


async def _check_parameters(request: Request) -> None:
    """Refuse unknown parameters: with a misspelt ``?labl=``, `/cancel` would cancel all jobs.

    Raises ``UserError``.
    """
    known = [each.alias for each in request.scope["route"].dependant.query_params]
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None:
        allowed = ", ".join(known) or "none"
        raise UserError(f"unknown parameter {unknown[:80]!r}; allowed here: {allowed}")
    if request.headers.get("content-type", "").startswith("application/json"):
        raise UserError(
            "requests do not take JSON: give parameters in the address, as in ?label=NAME"
        )


def status_of(error: UserError) -> int:
    """The HTTP status of a refusal."""
    return {UnknownJobError: 404, ConflictError: 409, TooLargeError: 413}.get(type(error), 422)


def unusable(workspace: Workspace, error: sqlite3.Error | OSError) -> tuple[int, str]:
    """The HTTP status and the message if the queue or the workspace cannot be used."""
    queue = workspace.daemon / QUEUE_FILE
    if isinstance(error, sqlite3.Error):
        if no_space(error):
            return 507, trouble(queue, error)
        if is_damage(error):
            return 503, trouble(queue, error)
        return 503, f"the queue is unavailable: {error}"
    if error.errno in DISK_ERRORS:
        return 507, disk_error(Path(os.fsdecode(error.filename or queue)), error.errno)
    return 503, f"the workspace is unavailable: {error}"


def _answer_errors(app: FastAPI, workspace: Workspace) -> None:

    @app.exception_handler(UserError)
    def refuse(request: Request, error: UserError) -> JSONResponse:
        # Do not wait for the rest of a body that was not read to its end.
        headers = {"Connection": "close"} if isinstance(error, TooLargeError) else None
        return problem(str(error), status_of(error), headers)

    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(OSError)
    def unavailable(request: Request, error: sqlite3.Error | OSError) -> JSONResponse:
        status, words = unusable(workspace, error)
        return problem(words, status)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        requested = f"{request.method} {request.url.path[:80]}"
        words = f"{requested}: {error.detail}; GET /openapi.json lists the endpoints"
        return problem(words, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{fault['loc'][-1]}: {requirement(fault)}" for fault in error.errors()[:3]]
        return problem("; ".join(faults), 422)

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has disconnected
