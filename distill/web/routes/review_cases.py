"""The cases that the review's page asks for."""

from typing import Any

from fastapi import APIRouter

from distill.web.review.reviews import Reviews
from distill.web.review.shown import shown_case
from distill.web.routes.review_requests import NextWanted


def router(reviews: Reviews) -> APIRouter:
    routes = APIRouter()

    @routes.post("/next")
    def more(sent: NextWanted) -> list[dict[str, Any]]:
        """The next cases for a reviewer."""
        review = reviews.open(sent.set)
        found = review.next_cases(sent.who, sent.count, sent.check, sent.held, sent.later)
        seen = review.refresh()
        return [shown_case(review, case, seen) for case in found]

    @routes.get("/case")
    def case(set: str, key: str) -> dict[str, Any]:
        """One case in its current state, decided or not."""
        review = reviews.open(set)
        seen = review.refresh()
        return shown_case(review, review.look(key), seen)

    return routes
