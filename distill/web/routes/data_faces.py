"""The identities and faces of a store or view."""

from typing import Literal

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from distill.web import data
from distill.web.routes.set_pages import AT, Number, Page, SetPages

FACES = 120
"""Faces of one identity per page"""


def router(pages: SetPages) -> APIRouter:
    routes = APIRouter()

    @routes.get(AT + "/identity/{identity}")
    def show_identity(folder: str, name: str, identity: Number, page: Page = 1) -> Response:
        """The faces of an identity, one page at a time."""
        images = pages.sets.open(f"{folder}/{name}")
        if identity >= images.identities:
            raise HTTPException(404, f"the identities are 0 to {images.identities - 1}")
        first, last = (int(each) for each in images.offsets[identity : identity + 2])
        begin = first + (page - 1) * FACES
        return pages.page(
            "identity.html",
            f"{folder}/{name}",
            images,
            identity=identity,
            count=last - first,
            faces=range(begin, min(begin + FACES, last)),
            page=page,
            pages=max(1, -(-(last - first) // FACES)),
        )

    @routes.get(AT + "/face/{face}")
    def show_face(folder: str, name: str, face: Number) -> Response:
        """One face and the identities near it."""
        images = pages.with_face(f"{folder}/{name}", face)
        return pages.page("face.html", f"{folder}/{name}", images, face=face)

    @routes.get(AT + "/near/{face}")
    def near(folder: str, name: str, face: Number) -> Response:
        """The identities nearest to a face, by cached embeddings."""
        images = pages.with_face(f"{folder}/{name}", face)
        teacher, found = data.nearest(pages.site.workspace.cache, images, face)
        return pages.page("near.html", f"{folder}/{name}", images, teacher=teacher, near=found)

    @routes.get(AT + "/picture/{face}")
    def picture(
        folder: str, name: str, face: Number, side: Literal["112", "224"] = "112"
    ) -> Response:
        """A face as an image; cacheable because its address contains the set's digest."""
        content = data.picture(pages.with_face(f"{folder}/{name}", face), face, int(side))
        if content is None:
            raise HTTPException(404, "this image cannot be decoded")
        keep = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content, media_type="image/jpeg", headers=keep)

    return routes
