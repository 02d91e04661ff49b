"""The bundle of a job, whole or file by file."""

from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response, StreamingResponse

from distill.daemon.results import outcome_in
from distill.spec_source import check_name
from distill.web.downloads import tar_of
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter()

    @routes.get("/jobs/{name}/bundle.tar")
    def bundle(name: str) -> Response:
        """The whole bundle."""
        if not (files := _files(site, name)):
            raise HTTPException(404, "this job has no bundle yet")
        leaving = {"Content-Disposition": f'attachment; filename="{name}.tar"'}
        return StreamingResponse(
            tar_of(files, name), media_type="application/x-tar", headers=leaving
        )

    @routes.get("/jobs/{name}/bundle/{file:path}")
    def bundle_file(name: str, file: str) -> Response:
        """One file of the bundle."""
        if (path := _files(site, name).get(file)) is None:
            raise HTTPException(404, "the bundle has no such file")
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    return routes


def _files(site: Site, name: str) -> dict[str, Path]:
    """The files of the bundle by name."""
    outcome = outcome_in(site.service.queue, site.workspace, check_name(name))
    if (found := outcome["bundle"]) is None:
        return {}
    return {each: Path(found["path"], each) for each in found["files"]}
