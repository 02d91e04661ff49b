"""One job: its steps, curves, log, evaluation, bundle, and spec."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response, StreamingResponse

from curation.errors import UserError
from curation.toml_text import read_toml
from curation.workspace import QUEUE_FILE
from distill.comparison import figures_of, intervals_of
from distill.daemon import client
from distill.daemon.reports import iso, report
from distill.daemon.results import outcome_of, reports_of
from distill.daemon.states import State
from distill.run_directory import LOG, METRICS, PROGRESS, RESOLVED, STEPS, found_object
from distill.spec_difference import Difference, differences, leaves_of
from distill.spec_source import check_name
from distill.web.curves import grouped
from distill.web.downloads import tar_of
from distill.web.events import changes, stamp
from distill.web.logs import search, tail
from distill.web.site import Site
from distill.web.view_sheets import ViewSheets, has_views

_OFFERED = 200
"""Maximum other jobs offered for comparing specs"""


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    place, service = site.workspace, site.service
    sheets = ViewSheets(place, site.ending)

    @routes.get("/jobs/{name}")
    def job(name: str, step: str | None = None, other: str | None = None) -> Response:
        """The page of a job."""
        queued = service.job(name)
        told = report(queued, site.around([queued]))
        curves = site.curves.of(queued.name).steps()
        shown = step if step in curves else next(reversed(curves), None)
        outcome = outcome_of(place, queued.name)
        return site.page(
            "job.html",
            job=told,
            outcome=outcome,
            history=[(iso(each.at), each) for each in service.queue.history(queued.name)],
            curves=curves,
            step=shown,
            charts=grouped(curves[shown]) if shown else {},
            evaluation=_evaluation(outcome["evaluation"]),
            spec=queued.spec,
            resolved=_values(found_object(place.runs / queued.name / RESOLVED)),
            other=other,
            different=None if other is None else _different(name, other),
            others=[each for each in service.queue.names()[-_OFFERED:] if each != name],
            log=tail(place.runs / queued.name / LOG),
            has_views=has_views(queued.spec),
            sheet=_stamp_of(sheets.find(queued.spec)),
            queued=[] if told.state is not State.QUEUED else _queued(name),
        )

    def _queued(name: str) -> list[str]:
        names = service.queue.names(State.QUEUED)[:_OFFERED]
        return [each for each in names if each != name]

    def _different(name: str, other: str) -> list[Difference] | str:
        try:
            texts = [client.spec_of(place, each) for each in (name, other)]
            documents = [read_toml(text, "the spec") for text in texts]
        except UserError as error:
            return str(error)
        return [each for each in differences(*documents) if each.key != "name"]

    @routes.get("/events/jobs/{name}")
    def events(name: str) -> Response:
        """An event whenever the job progresses or is acted on."""
        run = place.runs / service.job(name).name
        files = [run / record for record in (PROGRESS, STEPS, METRICS, LOG)]
        files += [place.daemon / f"{QUEUE_FILE}{end}" for end in ("", "-wal")]
        return changes(site, lambda: [stamp(path) for path in files])

    @routes.get("/jobs/{name}/log")
    def log(name: str, words: str = "") -> Response:
        """The end of the log, or the lines that contain these words."""
        path = place.runs / service.job(name).name / LOG
        found = search(path, words[:200]) if words.strip() else tail(path)
        return site.page("log.html", log=found, words=words)

    @routes.get("/jobs/{name}/log.txt")
    def whole_log(name: str) -> Response:
        """The whole log as a download."""
        path = place.runs / service.job(name).name / LOG
        if not path.is_file():
            raise HTTPException(404, "this job has no log yet")
        return FileResponse(path, media_type="text/plain", filename=f"{name}-log.txt")

    @routes.post("/jobs/{name}/views")
    def make_views(name: str) -> Response:
        """Create and keep the contact sheet of the job's augmented views."""
        spec, problem = service.job(name).spec, None
        try:
            sheets.make(spec)
        except UserError as error:
            problem = str(error)
        sheet = _stamp_of(sheets.find(spec))
        return site.page("views.html", name=name, sheet=sheet, problem=problem)

    @routes.get("/jobs/{name}/views.png")
    def views(name: str) -> Response:
        """The contact sheet, if it was created."""
        if (path := sheets.find(service.job(name).spec)) is None:
            raise HTTPException(404, "this job has no contact sheet")
        return FileResponse(path, media_type="image/png")

    @routes.get("/jobs/{name}/bundle.tar")
    def bundle(name: str) -> Response:
        """The whole bundle."""
        if not (files := _files(name)):
            raise HTTPException(404, "this job has no bundle yet")
        leaving = {"Content-Disposition": f'attachment; filename="{name}.tar"'}
        return StreamingResponse(
            tar_of(files, name), media_type="application/x-tar", headers=leaving
        )

    @routes.get("/jobs/{name}/bundle/{file:path}")
    def bundle_file(name: str, file: str) -> Response:
        """One file of the bundle."""
        if (path := _files(name).get(file)) is None:
            raise HTTPException(404, "the bundle has no such file")
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    def _files(name: str) -> dict[str, Path]:
        """The files of the bundle by name, without links that lead out of it."""
        if (found := outcome_of(place, check_name(name))["bundle"]) is None:
            return {}
        folder = Path(found["path"]).resolve()
        paths = {each: (folder / each).resolve() for each in found["files"]}
        return {each: path for each, path in paths.items() if path.is_relative_to(folder)}

    return routes


def _evaluation(evaluation: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], Any]]:
    """Network, set, figures and their intervals; the figures of a set in the order of the FARs."""
    return [
        (network, name, figures_of(measured), intervals_of(measured))
        for network, name, measured in reports_of(evaluation)
    ]


def _stamp_of(path: Path | None) -> int | None:
    """A value that changes with the file; None if there is no file."""
    return None if path is None else path.stat().st_mtime_ns


def _values(resolved: dict[str, Any]) -> list[tuple[str, str]]:
    return [(key, json.dumps(value, ensure_ascii=False)) for key, value in leaves_of(resolved)]
