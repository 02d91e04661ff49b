"""The files that the pages load; none come from another server."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from distill.web.site import PageMaker, static_files, static_version

_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def router(site: PageMaker) -> APIRouter:
    routes = APIRouter()

    @routes.get("/static/{version}/{name:path}")
    async def static(version: str, name: str) -> Response:
        """One static file."""
        content = static_files().get(name)
        if content is None or version != static_version():
            raise HTTPException(404, "there is no such file")
        kind = _KINDS["." + name.rpartition(".")[2]]
        keep = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=keep)

    return routes
