"""The queue: all jobs, one page at a time."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse, Response

from curation.workspace import QUEUE_FILE
from distill.daemon.listing import LIMIT, Wanted
from distill.daemon.reports import report_page
from distill.daemon.states import State
from distill.run_directory import PROGRESS, STEPS
from distill.web.events import changes, stamp
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    queue = site.service.queue

    @routes.get("/")
    def show_queue(
        state: State | None = None,
        label: str | None = None,
        page: Annotated[int, Query(ge=1, le=1 << 40)] = 1,
    ) -> Response:
        """All jobs, or those in one state or with one label."""
        wanted = Wanted(state=state, label=label or None, page=page, limit=LIMIT)

        around = site.around([])
        holders = {gpu.uuid: name for name, gpus in around.gpus.items() for gpu in gpus}
        return site.page(
            "queue.html",
            listed=report_page(queue, wanted, site.around),
            wanted=wanted,
            address=partial(_address, wanted),
            drained=around.drained,
            running=len(around.running),
            machine=site.service.capacity(),
            free=around.shares and around.shares.free,
            holders=holders,
        )

    @routes.get("/find")
    def find(job: str) -> Response:
        """The page of the job that the user entered."""
        return RedirectResponse(f"/jobs/{quote(job.strip(), safe='')}", 303)

    @routes.get("/events/queue")
    def events() -> Response:
        """An event whenever a job changes state or a running job progresses."""
        return changes(site, lambda: _stamps(site))

    return routes


def _address(wanted: Wanted, **other: Any) -> str:
    """The address of the queue as it is shown, or with ``other`` filters or another page."""
    query = {"state": wanted.state, "label": wanted.label, "page": wanted.page, **other}
    kept = {key: str(value) for key, value in query.items() if value not in (None, "", 1)}
    return f"/?{urlencode(kept)}"


def _stamps(site: Site) -> object:
    """A value that changes with the queue, and with what its running jobs record."""
    daemon, runs = site.workspace.daemon, site.workspace.runs
    running = site.service.queue.names(State.RUNNING)
    files: list[Path] = [daemon / f"{QUEUE_FILE}{end}" for end in ("", "-wal")]
    files += [runs / name / record for name in running for record in (PROGRESS, STEPS)]
    return [stamp(path) for path in files]
