"""The contact sheet of a job's augmented views."""

from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from curation.errors import UserError
from distill.web.site import Site
from distill.web.view_sheets import ViewSheets


def router(site: Site, sheets: ViewSheets) -> APIRouter:
    routes = APIRouter()
    service = site.service

    @routes.post("/jobs/{name}/views")
    def make_views(name: str) -> Response:
        """Create and keep the contact sheet of the job's augmented views."""
        spec, problem = service.job(name).spec, None
        try:
            sheets.make(spec)
        except UserError as error:
            problem = str(error)
        sheet = stamp_of(sheets.find(spec))
        return site.page("views.html", name=name, sheet=sheet, problem=problem)

    @routes.get("/jobs/{name}/views.png")
    def views(name: str) -> Response:
        """The contact sheet, if it was created."""
        if (path := sheets.find(service.job(name).spec)) is None:
            raise HTTPException(404, "this job has no contact sheet")
        return FileResponse(path, media_type="image/png")

    return routes


def stamp_of(path: Path | None) -> int | None:
    """A value that changes with the file; None if there is no file."""
    try:
        return None if path is None else path.stat().st_mtime_ns
    except FileNotFoundError:  # an old sheet was removed meanwhile
        return None
