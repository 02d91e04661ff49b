"""The whole log of a job."""

import os

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from distill.run_directory import LOG, open_log
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    place, service = site.workspace, site.service

    @routes.get("/jobs/{name}/log.txt")
    def whole_log(name: str) -> Response:
        """The whole log as a download."""
        path = place.runs / service.job(name).name / LOG
        if not os.path.lexists(path):
            raise HTTPException(404, "this job has no log yet")
        open_log(path).close()
        return FileResponse(path, media_type="text/plain", filename=f"{name}-log.txt")

    return routes
