"""The review of flagged identities: its page and the requests of that page."""

import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from curation.errors import UserError
from curation.noise.decisions import Action
from curation.printable import printable
from curation.review.events import MOST_LINES, Choice
from curation.review.log import NotWrittenError
from curation.review.outcome import what_is_left
from curation.review.refusals import StaleError
from distill.web.review.reviews import Reviews
from distill.web.review.shown import (
    compared_picture,
    conflict_key,
    find_identities,
    picture,
    shown_case,
    shown_conflict,
    shown_event,
    shown_progress,
)
from distill.web.site import PageMaker

MOST_CASES = 12
LEFT_SECONDS = 10.0
"""Minimum time between counts of the remaining images; a count takes 0.5 s for a million images"""
_Name = Annotated[str, Field(max_length=400)]
_Id = Annotated[str, Field(pattern="^[0-9A-Za-z._-]{1,60}$")]
_Keys = Annotated[tuple[_Name, ...], Field(max_length=4 * MOST_CASES)]
_Index = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    set: _Name
    who: _Name


class NextWanted(_Sent):
    """A request for more cases, listing those the page already holds."""

    count: Annotated[int, Field(ge=1, le=MOST_CASES)] = 4
    check: _Name | None = None
    held: _Keys = ()


class LineSent(BaseModel):
    """One decision for one or more images; a decision on a whole identity has no images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    identity: _Index
    images: Annotated[tuple[_Index, ...], Field(max_length=MOST_LINES)] = ()
    into: _Index | None = None

    def proposals(self) -> list[str]:
        """The line in the form of ``Decision.proposal``."""
        end = "" if self.into is None else f" {self.into}"
        if not self.images:
            return [f"{self.action} {self.identity}{end}"]
        return [f"{self.action} {image} {self.identity}{end}" for image in self.images]


class DecisionSent(_Sent):
    """A decision, with an id assigned by the page."""

    id: _Id
    case: _Name
    findings: _Name
    seen: _Index
    choice: Choice
    lines: Annotated[tuple[LineSent, ...], Field(max_length=1000)] = ()
    held: _Keys = ()


class UndoSent(_Sent):
    """The event to undo."""

    id: _Id
    undoes: _Name


class SettlementSent(_Sent):
    """The decision of a conflict that is kept."""

    id: _Id
    conflict: Annotated[str, Field(max_length=2000)]
    keep: _Name


def router(reviews: Reviews, pages: PageMaker, home: Literal["/", ""]) -> APIRouter:
    """The routes; ``home`` is the page to which the review links back, or empty."""
    routes = APIRouter(prefix="/review")
    left: dict[str, tuple[int, float, dict[str, int]]] = {}

    @routes.get("")
    def page(set: str) -> Response:
        """The page, which requests everything else itself."""
        return pages.page("review.html", name=set, home=home)

    @routes.post("/next")
    def more(sent: NextWanted) -> list[dict[str, Any]]:
        """The next cases for a reviewer."""
        review = reviews.open(sent.set)
        found = review.next_cases(sent.who, sent.count, sent.check, sent.held)
        seen = review.refresh()
        return [shown_case(review, case, seen) for case in found]

    @routes.get("/case")
    def case(set: str, key: str) -> dict[str, Any]:
        """One case in its current state, decided or not."""
        review = reviews.open(set)
        seen = review.refresh()
        return shown_case(review, review.look(key), seen)

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

    @routes.get("/progress")
    def progress(set: str) -> dict[str, Any]:
        """The progress of the review."""
        review = reviews.open(set)
        review.refresh()
        return shown_progress(review)

    @routes.get("/left")
    def effect(set: str) -> dict[str, int]:
        """The numbers of images and identities after applying the decisions."""
        review = reviews.open(set)
        number = review.refresh()
        at, since, found = left.get(set, (-1, -LEFT_SECONDS, {}))
        if at != number and time.monotonic() - since >= LEFT_SECONDS:
            try:
                found = vars(what_is_left(review.images.labels, review.decisions()))
            except UserError:  # circular merges, which `curate clean` reports
                found = {}
            left[set] = number, time.monotonic(), found
        return found

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
            "name": printable(f"{review.images.path.parent.name}/{review.images.name}"),
            "checks": checks,
            "titles": {c.name: c.explanation.title for c in review.cases.checks},
        }

    return routes


def kept_picture(content: bytes, kind: str) -> Response:
    """An image that browsers may cache forever."""
    keep = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=keep)


def answered(act: Callable[[Any], Response]) -> Callable[[Any], Response]:
    """Wrap ``act`` to answer 409 on a conflicting change, and 507 if the disk is full."""

    @wraps(act)
    def attempt(sent: Any) -> Response:
        try:
            return act(sent)
        except (StaleError, NotWrittenError) as error:
            status = 409 if isinstance(error, StaleError) else 507
            return JSONResponse({"error": str(error)}, status)

    return attempt
