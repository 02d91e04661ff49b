"""The endpoints of the HTTP API by subject: the daemon, the list of jobs, one job, its log."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from distill.daemon.api_reports import Health, Reporting
from distill.daemon.listing import LIMIT, MOST, Wanted
from distill.daemon.removal import Removed, remove
from distill.daemon.reports import JobReport, report_page
from distill.daemon.service import JobService, QueueEnd
from distill.daemon.states import State
from distill.provenance import Provenance, parse_provenance
from distill.run_directory import LOG, read_log


def daemon_routes(service: JobService, reports: Reporting) -> APIRouter:
    """The state of the daemon, and whether it starts jobs."""
    routes = APIRouter()

    @routes.get("/health")
    def health() -> Health:
        """Whether the daemon is alive."""
        return reports.health()

    @routes.post("/wake")
    def wake() -> Health:
        """Look at the queue now; 503 if its file was moved or replaced."""
        service.wake()
        return reports.health()

    @routes.post("/drain")
    def drain() -> Health:
        """Stop starting jobs; running jobs continue."""
        service.drain()
        return reports.health()

    @routes.post("/undrain")
    def undrain() -> Health:
        """Start jobs again."""
        service.undrain()
        return reports.health()

    return routes


def listing_routes(service: JobService, reports: Reporting) -> APIRouter:
    """The jobs, a page at a time."""
    routes = APIRouter()

    @routes.get("/jobs")
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
        found = report_page(service.queue, wanted, reports.around)
        response.headers["X-Total-Count"] = str(found.total)
        response.headers["X-Page-Count"] = str(found.pages)
        return found.jobs

    return routes


def job_routes(service: JobService, reports: Reporting) -> APIRouter:
    """What is recorded of one job."""
    routes = APIRouter()

    @routes.get("/jobs/{name}")
    def show_job(name: str) -> JobReport:
        """One job."""
        return reports.shown(service.job(name))

    @routes.get("/jobs/{name}/provenance")
    def provenance(name: str) -> Provenance | None:
        """Where the job comes from: overrides, code, data, versions; null if not recorded."""
        return parse_provenance(service.queue.provenance(service.job(name).name))

    return routes


def action_routes(service: JobService, reports: Reporting) -> APIRouter:
    """What changes jobs: their state, their place in the queue, their removal."""
    routes = APIRouter()

    @routes.post("/jobs/{name}/cancel")
    def cancel(name: str, force: bool = False) -> JobReport:
        """Cancel a job. A running one has `cancel_requested` until it has ended."""
        return reports.shown(*service.cancel([name], force))

    @routes.post("/cancel")
    def cancel_all(label: str | None = None, force: bool = False) -> list[str]:
        """Cancel all jobs that have not ended, or those with a label; returns their names."""
        return [job.name for job in service.cancel_all(label, force)]

    @routes.post("/jobs/{name}/pause")
    def pause(name: str) -> JobReport:
        """Keep a job from starting. A running one has `pause_requested` until it has stopped."""
        return reports.shown(*service.pause([name]))

    @routes.post("/jobs/{name}/resume")
    def resume(name: str) -> JobReport:
        """Let a paused job start."""
        return reports.shown(*service.resume([name]))

    @routes.post("/jobs/{name}/move")
    def move(name: str, to: QueueEnd | None = None, before: str | None = None) -> JobReport:
        """Move a queued job to the `first` or `last` place of its priority, or before another."""
        return reports.shown(service.move(name, to, before))

    @routes.post("/jobs/{name}/retry")
    def retry(name: str) -> JobReport:
        """Queue a failed or cancelled job again, with the spec that was submitted."""
        return reports.shown(*service.retry([name]))

    @routes.delete("/jobs/{name}")
    def remove_job(name: str, bundle: bool = False) -> Removed:
        """Remove an ended job, or a queued one that never ran, with the files that only it uses."""
        return remove(service.workspace, service.queue, [name], bundles=bundle)

    return routes


def log_routes(service: JobService) -> APIRouter:
    """The log of a job."""
    routes = APIRouter()

    @routes.get("/jobs/{name}/log", response_class=Response)
    def log(name: str, offset: Annotated[int, Query(ge=-(1 << 40), le=1 << 60)] = 0) -> Response:
        """The log's bytes from `offset` (from the end if negative), 64 KiB at most.

        The header `X-Next-Offset` is the offset of the next request.
        """
        text, following = read_log(service.workspace.runs / service.job(name).name / LOG, offset)
        headers = {"X-Next-Offset": str(following)}
        return Response(text, media_type="text/plain; charset=utf-8", headers=headers)

    return routes
