"""Stores and views, their identities and their faces."""

from fastapi import APIRouter
from starlette.responses import Response

from distill.web.routes import data_faces, data_set
from distill.web.routes.set_pages import SetPages
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes, pages = APIRouter(), SetPages(site)

    @routes.get("/data")
    def families() -> Response:
        """Every store with its views, their history and their sizes."""
        return site.page("data.html", families=list(pages.sets.families()))

    routes.include_router(data_set.router(pages))
    routes.include_router(data_faces.router(pages))
    return routes
