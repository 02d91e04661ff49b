"""The HTTP API on the daemon's socket; `GET /openapi.json` describes it."""

import os
import sqlite3
from collections.abc import Sequence
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from curation.errors import UserError
from distill import __version__
from distill.daemon.job import Job
from distill.daemon.listing import LIMIT, MOST, Wanted
from distill.daemon.names import name_in
from distill.daemon.placing import Placing, said_after
from distill.daemon.refusals import ConflictError, UnknownJobError
from distill.daemon.removal import Removed, remove
from distill.daemon.reports import JobReport, report, report_page
from distill.daemon.service import JobService, QueueEnd
from distill.daemon.states import State
from distill.daemon.submitting import Answer, Outcome, Prepared
from distill.daemon.turns import Batched, RequestOrder
from distill.daemon.waiting import Surroundings, surroundings
from distill.provenance import Provenance, parse_provenance
from distill.run_directory import LOG, read_log
from distill.spec_source import LARGEST_SPEC, decode_spec

CHECKS_AT_ONCE = 2
"""Specs checked at the same time. A check is a process of up to a gigabyte; only other submits
wait for it."""


class Health(BaseModel):
    """The state of the daemon and its workload."""

    model_config = ConfigDict(frozen=True)

    pid: int
    version: str
    workspace: str
    slots: int
    drained: bool
    """No job starts"""
    jobs: dict[State, int]


class Submitted(BaseModel):
    """The response to a submit, sent after it is on disk."""

    model_config = ConfigDict(frozen=True)

    answer: Answer
    job: JobReport
    warnings: tuple[str, ...] = ()
    """Settings of the job that have no effect"""


class Problem(BaseModel):
    """Every error, as one line that says what to do."""

    error: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No job has this name."},
    409: {"model": Problem, "description": "The job's state does not allow it."},
    413: {"model": Problem, "description": "Too large for a job spec."},
    422: {"model": Problem, "description": "The request is malformed."},
    503: {"model": Problem, "description": "The queue cannot be read or written at the moment."},
}
_TOML_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/toml": {"schema": {"type": "string"}}},
    }
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
    runs = service.workspace.runs
    _answer_errors(app)

    def around(jobs: list[Job]) -> Surroundings:
        return surroundings(service.queue, slots, runs, jobs, service.capacity())

    def shown(job: Job) -> JobReport:
        return report(job, around([job]))

    def queue_all(prepared: Sequence[Prepared]) -> list[Submitted | Exception]:
        return [told(outcome) for outcome in service.queue_all(prepared)]

    def told(outcome: Outcome) -> Submitted | Exception:
        if isinstance(outcome, Exception):
            return outcome
        (done,) = outcome
        return Submitted(answer=done.answer, job=shown(done.job), warnings=done.warnings)

    checking, turns, submits = CapacityLimiter(CHECKS_AT_ONCE), RequestOrder(), Batched(queue_all)

    @app.get("/health")
    def health() -> Health:
        """Whether the daemon is alive."""
        return Health(
            pid=os.getpid(),
            version=__version__,
            workspace=str(service.workspace.root),
            slots=slots,
            drained=service.queue.drained_since() is not None,
            jobs=service.queue.counts(),
        )

    @app.post("/wake")
    def wake() -> Health:
        """Look at the queue now; 503 if its file was moved or replaced."""
        service.wake()
        return health()

    @app.post("/drain")
    def drain() -> Health:
        """Stop starting jobs; running jobs continue."""
        service.drain()
        return health()

    @app.post("/undrain")
    def undrain() -> Health:
        """Start jobs again."""
        service.undrain()
        return health()

    @app.get("/jobs")
    def list_jobs(
        response: Response,
        state: State | None = None,
        label: str | None = None,
        page: Annotated[int, Query(ge=1, le=1 << 40)] = 1,
        limit: Annotated[int, Query(ge=1, le=MOST)] = LIMIT,
    ) -> list[JobReport]:
        """A page of all jobs, or of those in one state or with one label, newest first.

        Without `state`, jobs from other pages that are running or failed recently come first. The
        headers `X-Total-Count` and `X-Page-Count` are the numbers of jobs and pages.
        """
        wanted = Wanted(state=state, label=label, page=page, limit=limit)
        found = report_page(service.queue, wanted, around)
        response.headers["X-Total-Count"] = str(found.total)
        response.headers["X-Page-Count"] = str(found.pages)
        return found.jobs

    @app.post("/jobs", openapi_extra=_TOML_BODY)
    async def submit(
        request: Request,
        replace: bool = False,
        priority: int | None = None,
        hold: bool = False,
        label: str | None = None,
        after: Annotated[list[str] | None, Query()] = None,
    ) -> Submitted:
        """Queue the job spec in the body (TOML). The response is sent after it is on disk."""
        placing = Placing(priority=priority, hold=hold, label=label, after=said_after(after))
        spec = decode_spec(await _limited_body(request))
        name = name_in(spec)
        with turns.taken() as turn:
            asked = ({name: spec}, replace, placing)
            prepared = await run_sync(service.prepare, *asked, limiter=checking)
            await turn()
            queued = submits.add(prepared)
        submitted = await queued()
        if isinstance(submitted, Exception):
            raise submitted
        return submitted

    @app.get("/jobs/{name}")
    def show_job(name: str) -> JobReport:
        """One job."""
        return shown(service.job(name))

    @app.get("/jobs/{name}/provenance")
    def provenance(name: str) -> Provenance | None:
        """Where the job comes from: overrides, code, data, versions; null if not recorded."""
        return parse_provenance(service.queue.provenance(service.job(name).name))

    @app.post("/jobs/{name}/cancel")
    def cancel(name: str, force: bool = False) -> JobReport:
        """Cancel a job. A running one has `cancel_requested` until it has ended."""
        return shown(*service.cancel([name], force))

    @app.post("/cancel")
    def cancel_all(label: str | None = None, force: bool = False) -> list[str]:
        """Cancel all jobs that have not ended, or those with a label; returns their names."""
        return [job.name for job in service.cancel_all(label, force)]

    @app.post("/jobs/{name}/pause")
    def pause(name: str) -> JobReport:
        """Keep a job from starting. A running one has `pause_requested` until it has stopped."""
        return shown(*service.pause([name]))

    @app.post("/jobs/{name}/resume")
    def resume(name: str) -> JobReport:
        """Let a paused job start."""
        return shown(*service.resume([name]))

    @app.post("/jobs/{name}/move")
    def move(name: str, to: QueueEnd | None = None, before: str | None = None) -> JobReport:
        """Move a queued job to the `first` or `last` place of its priority, or before another."""
        return shown(service.move(name, to, before))

    @app.post("/jobs/{name}/retry")
    def retry(name: str) -> JobReport:
        """Queue a failed or cancelled job again, with the spec that was submitted."""
        return shown(*service.retry([name]))

    @app.delete("/jobs/{name}")
    def remove_job(name: str, bundle: bool = False) -> Removed:
        """Remove an ended job, or a queued one that never ran, with the files that only it uses."""
        return remove(service.workspace, service.queue, [name], bundles=bundle)

    @app.get("/jobs/{name}/log", response_class=Response)
    def log(name: str, offset: Annotated[int, Query(ge=-(1 << 40), le=1 << 60)] = 0) -> Response:
        """The log's bytes from `offset` (from the end if negative), 64 KiB at most.

        The header `X-Next-Offset` is the offset of the next request.
        """
        text, following = read_log(runs / service.job(name).name / LOG, offset)
        headers = {"X-Next-Offset": str(following)}
        return Response(text, media_type="text/plain; charset=utf-8", headers=headers)

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
        raise UserError("no request takes JSON: parameters stand in the address, as ?label=NAME")


class _TooLargeError(UserError):
    """The body is too large to be a job spec."""


async def _limited_body(request: Request) -> bytes:
    """The body; refused as soon as it exceeds the limit."""
    too_large = _TooLargeError(f"a job spec is at most {LARGEST_SPEC >> 10} KiB of text")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > LARGEST_SPEC:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_SPEC:
            raise too_large
    return bytes(body)


def status_of(error: UserError) -> int:
    """The HTTP status of a refusal."""
    return {UnknownJobError: 404, ConflictError: 409, _TooLargeError: 413}.get(type(error), 422)


def _answer_errors(app: FastAPI) -> None:

    @app.exception_handler(UserError)
    def refuse(request: Request, error: UserError) -> JSONResponse:
        # Do not wait for the rest of a body that was not read to its end.
        headers = {"Connection": "close"} if isinstance(error, _TooLargeError) else None
        return JSONResponse({"error": str(error)}, status_of(error), headers)

    @app.exception_handler(sqlite3.Error)
    def unavailable(request: Request, error: sqlite3.Error) -> JSONResponse:
        return JSONResponse({"error": f"the queue is unavailable: {error}"}, 503)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        asked = f"{request.method} {request.url.path[:80]}"
        words = f"{asked}: {error.detail}; GET /openapi.json lists the endpoints"
        return JSONResponse({"error": words}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()[:3]]
        return JSONResponse({"error": "; ".join(faults)}, 422)

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has disconnected

    @app.exception_handler(OSError)
    def unwritable(request: Request, error: OSError) -> JSONResponse:
        return JSONResponse({"error": f"the workspace is unavailable: {error}"}, 503)
