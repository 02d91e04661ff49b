"""Rejects decisions that conflict with those of other reviewers."""

from curation.errors import UserError
from curation.noise.decisions import Decision
from curation.review.cases import Cases
from curation.review.events import ReviewEvent
from curation.review.standing import Standing


class StaleError(UserError):
    """A decision on something that changed since the reviewer saw it; nothing was written."""


def refuse_stale(
    cases: Cases, standing: Standing, case: int, event: ReviewEvent, seen: int
) -> None:
    """``StaleError`` if any subject of the event changed after the first ``seen`` events."""
    own = standing.decision(event.case)
    last = 0 if own is None else standing.number(own.id)
    subject = Decision("drop", int(cases.identity[case]), cases.image(case))
    if subject.image is not None:
        last = max(last, standing.last_change([subject]))
    last = max(last, standing.last_change(d for d in event.decisions() if d.apply))
    if last > seen:
        by = standing.events[last - 1]
        what = "undid a decision on" if by.choice is None else f"decided ({by.choice})"
        raise StaleError(
            f"{event.case}: meanwhile {by.who} {what} {by.case}, which concerns the same subject; "
            "reload it"
        )


def refuse_circle(standing: Standing, event: ReviewEvent) -> None:
    """``UserError`` if the merges of the event form a cycle with the current ones."""
    merges = [d for d in event.decisions() if d.apply and d.action == "merge"]
    into = {line.identity: line.into for line in merges}
    for identity in into:
        end, seen = into[identity], set[int]()
        while end is not None and end != identity and end not in seen:
            seen.add(end)
            end = into.get(end, standing.merged_into(end))
        if end == identity:
            raise UserError(
                f"identity {into[identity]} is already merged into identity {identity}, perhaps "
                f"through others; undo that first, or merge in the other direction"
            )
