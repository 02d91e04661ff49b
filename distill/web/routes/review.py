"""The review of flagged identities: its page and the requests of that page."""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from distill.web.review.reviews import Reviews
from distill.web.routes import review_cases, review_decisions, review_pictures, review_progress
from distill.web.site import PageMaker


def router(reviews: Reviews, pages: PageMaker, home: Literal["/", ""]) -> APIRouter:
    """The routes; ``home`` is the page to which the review links back, or empty."""
    routes = APIRouter(prefix="/review")

    @routes.get("")
    def page(set: str) -> Response:
        """The page, which requests everything else itself."""
        return pages.page("review.html", name=set, home=home)

    for part in (review_cases, review_decisions, review_progress, review_pictures):
        routes.include_router(part.router(reviews))
    return routes
