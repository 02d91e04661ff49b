"""What the API can be asked, as a page."""

from fastapi import APIRouter
from starlette.responses import Response

from distill.daemon.api import create_app
from distill.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter()

    @routes.get("/docs")
    def docs() -> Response:
        """The requests of the API, by its own description."""
        described = create_app(site.service, site.slots).openapi()["paths"]
        requests = [
            (method.upper(), f"/api{path}", operation)
            for path, methods in described.items()
            for method, operation in methods.items()
        ]
        return site.page("api.html", requests=requests)

    return routes
