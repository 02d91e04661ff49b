"""The whole log of a job."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from distill.run_directory import LOG
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    place, service = site.workspace, site.service

    @routes.get("/jobs/{name}/log.txt")
    def whole_log(name: str) -> Response:
        """The whole log as a download."""
        path = place.runs / service.job(name).name / LOG
        if not path.is_file():
            raise HTTPException(404, "this job has no log yet")
        return FileResponse(path, media_type="text/plain", filename=f"{name}-log.txt")

    return routes
