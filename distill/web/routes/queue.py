"""The queue: all jobs, a page at a time."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from curation.workspace import QUEUE_FILE
from distill.daemon.job import Job
from distill.daemon.listing import LIMIT, Wanted
from distill.daemon.reports import report_page
from distill.daemon.states import State
from distill.daemon.waiting import Surroundings, surroundings
from distill.run_directory import PROGRESS, STEPS
from distill.web.events import changes
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    service = site.service

    def around(jobs: list[Job]) -> Surroundings:
        runs = site.workspace.runs
        return surroundings(service.queue, site.slots, runs, jobs, service.capacity())

    @routes.get("/")
    def queue(
        state: State | None = None,
        label: str | None = None,
        page: Annotated[int, Query(ge=1, le=1 << 40)] = 1,
    ) -> Response:
        """The jobs, or those in one state or with one label."""
        wanted = Wanted(state=state, label=label or None, page=page, limit=LIMIT)
        return site.page(
            "queue.html",
            listed=report_page(service.queue, wanted, around),
            wanted=wanted,
            drained=service.queue.drained_since() is not None,
        )

    @routes.get("/events/queue")
    def events() -> Response:
        """An event whenever a job moved, or a running one has done something."""
        daemon, runs = site.workspace.daemon, site.workspace.runs

        def look() -> object:
            running = service.queue.names(State.RUNNING)
            files = [daemon / f"{QUEUE_FILE}{end}" for end in ("", "-wal")]
            files += [runs / name / record for name in running for record in (PROGRESS, STEPS)]
            return [_stamp(path) for path in files]

        return changes(site, look)

    return routes


def _stamp(path: Path) -> object:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
