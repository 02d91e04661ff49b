"""The API's requests as a page."""

from functools import cache

from fastapi import APIRouter
from starlette.responses import Response

from distill.daemon.api import create_app
from distill.web.site import Site

_Request = tuple[str, list[str], list[str], list[str]]
"""Method, path segments, paragraphs, parameters"""


def router(site: Site) -> APIRouter:
    routes = APIRouter()

    @cache
    def requests() -> list[_Request]:
        described = create_app(site.service, site.slots).openapi()["paths"]
        return [
            (
                method.upper(),
                ["api", *path.strip("/").split("/")],
                paragraphs(operation.get("description", "")),
                [each["name"] for each in operation.get("parameters", [])],
            )
            for path, methods in described.items()
            for method, operation in methods.items()
        ]

    @routes.get("/docs")
    def docs() -> Response:
        """The requests of the API, from its own description."""
        return site.page("api.html", requests=requests())

    return routes


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(each.split()) for each in text.split("\n\n") if each.strip()]
