"""One job: its steps, curves, log, evaluation, bundle, and spec."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from curation.errors import UserError
from curation.printable import shortened
from curation.toml_text import read_toml
from curation.workspace import QUEUE_FILE
from distill.comparison import figures_of, intervals_of
from distill.daemon import client
from distill.daemon.reports import iso, report
from distill.daemon.results import outcome_in, reports_of
from distill.daemon.states import State
from distill.run_directory import LOG, METRICS, PROGRESS, RESOLVED, STEPS, found_object
from distill.spec_difference import Difference, differences, leaves_of
from distill.web.curves import grouped
from distill.web.events import changes, stamp
from distill.web.logs import FoundLines, search, tail
from distill.web.routes import job_bundle, job_log, job_views
from distill.web.routes.job_views import stamp_of
from distill.web.site import Site
from distill.web.view_sheets import ViewSheets, has_views

_OFFERED = 200
"""Maximum other jobs offered for comparing specs"""
_MOST_EVENTS = 500
"""Events of the history that are shown, the newest ones"""
_MOST_VALUES, _LONGEST = 5000, 2000
"""Values of the resolved spec that are shown, and characters of each"""


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    place, service = site.workspace, site.service
    sheets = ViewSheets(place, site.ending)

    @routes.get("/jobs/{name}")
    def job(
        name: str, step: str | None = None, other: str | None = None, words: str = ""
    ) -> Response:
        """The page of a job; of its log, the end or the lines that contain ``words``."""
        queued = service.job(name)
        current = report(queued, site.around([queued]))
        past = service.queue.history(queued.name)[-_MOST_EVENTS:]
        curves = site.curves.of(queued.name).steps()
        shown = step if step in curves else next(reversed(curves), None)
        outcome = outcome_in(service.queue, place, queued.name)
        return site.page(
            "job.html",
            job=current,
            outcome=outcome,
            history=[(iso(each.at), each) for each in past],
            curves=curves,
            step=shown,
            charts=grouped(curves[shown]) if shown else {},
            evaluation=_evaluation(outcome["evaluation"]),
            spec=queued.spec,
            resolved=_values(found_object(place.runs / queued.name / RESOLVED)),
            other=other,
            different=None if other is None else _different(site, name, other),
            others=[each for each in service.queue.names()[-_OFFERED:] if each != name],
            words=words,
            log=_log(place.runs / queued.name / LOG, words),
            has_views=has_views(queued.spec),
            sheet=stamp_of(sheets.find(queued.spec)),
            queued=[] if current.state is not State.QUEUED else _queued(site, name),
        )

    @routes.get("/events/jobs/{name}")
    def events(name: str) -> Response:
        """An event whenever the job progresses or is acted on."""
        run = place.runs / service.job(name).name
        files = [run / record for record in (PROGRESS, STEPS, METRICS, LOG)]
        files += [place.daemon / f"{QUEUE_FILE}{end}" for end in ("", "-wal")]
        return changes(site, lambda: [stamp(path) for path in files])

    routes.include_router(job_log.router(site))
    routes.include_router(job_views.router(site, sheets))
    routes.include_router(job_bundle.router(site))
    return routes


def _log(path: Path, words: str) -> FoundLines:
    try:
        return search(path, words[:200]) if words.strip() else tail(path)
    except UserError as error:
        return FoundLines([], False, str(error))


def _queued(site: Site, name: str) -> list[str]:
    names = site.service.queue.names(State.QUEUED)[:_OFFERED]
    return [each for each in names if each != name]


def _different(site: Site, name: str, other: str) -> list[Difference] | str:
    try:
        texts = [client.spec_in(site.service.queue, site.workspace, each) for each in (name, other)]
        documents = [read_toml(text, "the spec") for text in texts]
    except UserError as error:
        return str(error)
    return [each for each in differences(*documents) if each.key != "name"]


def _evaluation(evaluation: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], Any]]:
    """Network, set, figures and their intervals; the figures of a set in the order of the FARs."""
    return [
        (network, name, figures_of(measured), intervals_of(measured))
        for network, name, measured in reports_of(evaluation)
    ]


def _values(resolved: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (shortened(key, _LONGEST), shortened(json.dumps(value, ensure_ascii=False), _LONGEST))
        for key, value in islice(leaves_of(resolved), _MOST_VALUES)
    ]
