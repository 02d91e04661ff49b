"""The faces of a review, searched identities, and what the page knows at its start."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from curation.printable import printable
from distill.web.review.reviews import Reviews
from distill.web.review.shown import (
    compared_picture,
    find_identities,
    picture,
)


def router(reviews: Reviews) -> APIRouter:
    routes = APIRouter()

    @routes.get("/identities")
    def identities(set: str, q: Annotated[str, Query(max_length=200)]) -> list[dict[str, Any]]:
        """Identities by index, label or name."""
        return find_identities(reviews.open(set), q)

    @routes.get("/face/{digest}/{image}")
    def face(digest: str, image: int, set: str) -> Response:
        """A face; browsers may cache it forever because its address contains the set's digest."""
        review = reviews.open(set)
        if not review.images.digest.startswith(digest):
            return JSONResponse({"error": "the images have changed"}, 404)
        return kept_picture(*picture(review.images, image))

    @routes.get("/compared/{findings}/{place}/{image}")
    def compared(findings: str, place: int, image: int, set: str) -> Response:
        """A face of an evaluation set; its address contains the digest of the findings."""
        review = reviews.open(set)
        if findings not in (one.identity for one in review.cases.findings):
            return JSONResponse({"error": "the findings have changed"}, 404)
        return kept_picture(*compared_picture(review, place, image))

    @routes.get("/set")
    def described(set: str) -> dict[str, Any]:
        """The initial data of the page."""
        review = reviews.open(set)
        checks: Sequence[str] = [one.check for one in review.cases.findings]
        return {
            "digest": review.images.digest[:16],
            "name": printable(review.images.full_name),
            "checks": checks,
            "titles": {c.name: c.explanation.title for c in review.cases.checks},
        }

    return routes


def kept_picture(content: bytes, kind: str) -> Response:
    """An image that browsers may cache forever."""
    keep = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=keep)
