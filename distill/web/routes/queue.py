"""The queue: all jobs, one page at a time."""

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

        def address(**other: Any) -> str:
            asked = {"state": state, "label": label, "page": page, **other}
            kept = {key: str(value) for key, value in asked.items() if value not in (None, "", 1)}
            return f"/?{urlencode(kept)}"

        around = site.around([])
        holders = {gpu.uuid: name for name, gpus in around.gpus.items() for gpu in gpus}
        return site.page(
            "queue.html",
            listed=report_page(queue, wanted, site.around),
            wanted=wanted,
            address=address,
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
        daemon, runs = site.workspace.daemon, site.workspace.runs

        def look() -> object:
            running = queue.names(State.RUNNING)
            files: list[Path] = [daemon / f"{QUEUE_FILE}{end}" for end in ("", "-wal")]
            files += [runs / name / record for name in running for record in (PROGRESS, STEPS)]
            return [stamp(path) for path in files]

        return changes(site, look)

    return routes
