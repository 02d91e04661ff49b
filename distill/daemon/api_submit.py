"""The endpoint that queues a job spec: many at a time, in the order of their requests."""

from collections.abc import Sequence
from typing import Annotated

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request

from curation.errors import UserError
from distill.daemon.api_reports import Reporting, Submitted
from distill.daemon.names import name_in
from distill.daemon.placing import Placing, names_after
from distill.daemon.service import JobService
from distill.daemon.submitting import Outcome, Prepared
from distill.daemon.turns import Batched, RequestOrder
from distill.spec_source import LARGEST_SPEC, decode_spec

CHECKS_AT_ONCE = 2
"""Specs checked at the same time. A check is a process of up to a gigabyte; only other submits
wait for it."""


_TOML_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/toml": {"schema": {"type": "string"}}},
    }
}


class TooLargeError(UserError):
    """The body is too large to be a job spec."""


async def _limited_body(request: Request) -> bytes:
    """The body; refused as soon as it exceeds the limit."""
    too_large = TooLargeError(f"a job spec is at most {LARGEST_SPEC >> 10} KiB of text")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > LARGEST_SPEC:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_SPEC:
            raise too_large
    return bytes(body)


class SubmitEndpoint:
    """Checks specs beside each other and queues them together, in the order of their requests."""

    def __init__(self, service: JobService, reports: Reporting) -> None:
        self._service, self._reports = service, reports
        self._checking = CapacityLimiter(CHECKS_AT_ONCE)
        self._turns = RequestOrder()
        self._batches = Batched(self._queue_all)

    async def submit(self, spec: str, replace: bool, placing: Placing) -> Submitted:
        """The response, once the job is on disk. Raises what refused it."""
        name = name_in(spec)
        with self._turns.taken() as turn:
            arguments = ({name: spec}, replace, placing)
            prepared = await run_sync(self._service.prepare, *arguments, limiter=self._checking)
            await turn()
            queued = self._batches.add(prepared)
        submitted = await queued()
        if isinstance(submitted, Exception):
            raise submitted
        return submitted

    def _queue_all(self, prepared: Sequence[Prepared]) -> list[Submitted | Exception]:
        return [self._submitted(outcome) for outcome in self._service.queue_all(prepared)]

    def _submitted(self, outcome: Outcome) -> Submitted | Exception:
        if isinstance(outcome, Exception):
            return outcome
        (done,) = outcome
        job = self._reports.shown(done.job)
        return Submitted(answer=done.answer, job=job, warnings=done.warnings)


def submit_routes(submits: SubmitEndpoint) -> APIRouter:
    """The endpoint that queues a job spec."""
    routes = APIRouter()

    @routes.post("/jobs", openapi_extra=_TOML_BODY)
    async def submit(
        request: Request,
        replace: bool = False,
        priority: int | None = None,
        hold: bool = False,
        label: str | None = None,
        after: Annotated[list[str] | None, Query()] = None,
    ) -> Submitted:
        """Queue the job spec in the body (TOML). The response is sent after it is on disk."""
        placing = Placing(priority=priority, hold=hold, label=label, after=names_after(after))
        spec = decode_spec(await _limited_body(request))
        return await submits.submit(spec, replace, placing)

    return routes
