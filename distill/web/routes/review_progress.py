"""How far a review is: progress, effect, history and conflicts."""

import time
from typing import Any

from fastapi import APIRouter

from curation.errors import UserError
from curation.review.outcome import cleaning_effect
from curation.review.review import Review
from distill.web.review.reviews import Reviews
from distill.web.review.shown import (
    shown_conflict,
    shown_event,
    shown_progress,
)

LEFT_SECONDS = 10.0
"""Minimum time between counts of the remaining images; a count takes 0.5 s for a million images"""


class Effects:
    """The last effect counted for each review, and when."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, float, dict[str, int]]] = {}

    def of(self, name: str, review: Review) -> dict[str, int]:
        """The effect of the decisions of the review ``name``; empty if they cannot be applied."""
        number = review.refresh()
        at, since, found = self._counted.get(name, (-1, -LEFT_SECONDS, {}))
        if at != number and time.monotonic() - since >= LEFT_SECONDS:
            try:
                found = vars(cleaning_effect(review.images.labels, review.decisions()))
            except UserError:  # circular merges, which `curate clean` reports
                found = {}
            self._counted[name] = number, time.monotonic(), found
        return found


def router(reviews: Reviews) -> APIRouter:
    routes, effects = APIRouter(), Effects()

    @routes.get("/progress")
    def progress(set: str) -> dict[str, Any]:
        """The progress of the review."""
        review = reviews.open(set)
        review.refresh()
        return shown_progress(review)

    @routes.get("/left")
    def effect(set: str) -> dict[str, int]:
        """The numbers of images and identities after applying the decisions."""
        return effects.of(set, reviews.open(set))

    @routes.get("/history")
    def history(set: str, before: int | None = None) -> list[dict[str, Any]]:
        """The last events."""
        review = reviews.open(set)
        review.refresh()
        events = review.history(50, before)
        return [{"number": n, **shown_event(review, event)} for n, event in events]

    @routes.get("/conflicts")
    def conflicts(set: str) -> list[dict[str, Any]]:
        """Decisions that contradict each other."""
        review = reviews.open(set)
        review.refresh()
        return [shown_conflict(review, one) for one in review.conflicts()[:200]]

    return routes
