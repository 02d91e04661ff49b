"""Decisions of the review, their undoing, and the settlement of conflicts."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from curation.review.log import NotWrittenError
from curation.review.refusals import StaleError
from distill.daemon.problems import problem
from distill.web.review.reviews import Reviews
from distill.web.review.shown import (
    conflict_key,
    shown_event,
)
from distill.web.routes.review_requests import DecisionSent, SettlementSent, UndoSent


def router(reviews: Reviews) -> APIRouter:
    routes = APIRouter()

    @routes.post("/decide")
    @answered
    def decide(sent: DecisionSent) -> Response:
        """Record a decision; returns which of the page's cases are still open."""
        review = reviews.open(sent.set)
        lines = [text for line in sent.lines for text in line.proposals()]
        event = review.decide(
            sent.id, sent.who, sent.case, sent.findings, sent.seen, sent.choice, lines
        )
        held = {key: review.is_open(review.look(key)) for key in sent.held}
        return JSONResponse({"event": shown_event(review, event), "open": held})

    @routes.post("/undo")
    @answered
    def undo(sent: UndoSent) -> Response:
        """Undo an event."""
        review = reviews.open(sent.set)
        event = review.undo(sent.id, sent.who, sent.undoes)
        return JSONResponse({"event": shown_event(review, event)})

    @routes.post("/settle")
    @answered
    def settle(sent: SettlementSent) -> Response:
        """Settle a conflict."""
        review = reviews.open(sent.set)
        review.refresh()
        conflict = next((c for c in review.conflicts() if conflict_key(c) == sent.conflict), None)
        if conflict is None:
            raise StaleError("this conflict is settled, or has changed")
        events = review.settle(sent.id, sent.who, conflict, sent.keep)
        return JSONResponse({"events": [shown_event(review, event) for event in events]})

    return routes


def answered(act: Callable[[Any], Response]) -> Callable[[Any], Response]:
    """Wrap ``act`` to answer 409 on a conflicting change, and 507 if the disk is full."""

    @wraps(act)
    def attempt(sent: Any) -> Response:
        try:
            return act(sent)
        except (StaleError, NotWrittenError) as error:
            status = 409 if isinstance(error, StaleError) else 507
            return problem(str(error), status)

    return attempt
