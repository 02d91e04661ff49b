"""What reviewers did, as append-only events, one per line of ``decisions.jsonl``."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from curation.json_text import first_fault
from curation.noise.decisions import Decision, parse_proposal

Choice = Literal["accept", "reject", "unsure", "change"]
MOST_LINES = 100_000
"""Maximum number of images in one decision"""
LONGEST_EVENT = 8 << 20
"""Maximum bytes of an event: that many lines, twice"""

_Text = Annotated[str, Field(max_length=200)]
_Line = Annotated[str, Field(max_length=80)]
_Lines = Annotated[tuple[_Line, ...], Field(max_length=MOST_LINES)]


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """A decision on a case, or the undoing of an earlier event."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern="^[0-9A-Za-z._-]{1,64}$")]
    """Chosen by the sender; the same event sent twice counts once"""
    at: _Text
    """Time in UTC"""
    who: Annotated[str, Field(min_length=1, max_length=64)]
    case: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,63}-[0-9]{1,15}$")]
    """The check, and the index of the image or identity: "misplaced-17" """
    findings: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,63}-[0-9a-f]{1,64}$")]
    """``Finding.identity`` of the findings that were decided on"""
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    choice: Choice | None = None
    """None if the event undoes another one"""
    confirmed: bool | None = None
    """Whether the check was right; None if unknown"""
    proposed: _Lines = ()
    """The proposals of the check, as ``Decision.proposal``"""
    lines: _Lines = ()
    """The decisions to apply"""
    against: _Text | None = None
    """The ``id`` of another decision on this case that an imported one contradicts"""
    undoes: _Text | None = None
    """The ``id`` of the event that it undoes"""

    @property
    def check(self) -> str:
        return self.case.rpartition("-")[0]

    def decisions(self) -> list[Decision]:
        """Lines of a table: "yes" for what to apply, "no" for proposals that were declined."""
        done = dict.fromkeys(self.lines)
        declined = [] if self.choice == "unsure" else [p for p in self.proposed if p not in done]
        marked = [*((text, True) for text in done), *((text, False) for text in declined)]
        return [self._decision(text, apply) for text, apply in marked]

    def _decision(self, text: str, apply: bool) -> Decision:
        action, identity, image, into = parse_proposal(text)
        note = f"{self.who}, {self.at}"
        return Decision(
            action, identity, image, into, self.check, self.score, note, apply, self.findings
        )


_ADAPTER: TypeAdapter[ReviewEvent] = TypeAdapter(ReviewEvent)


def as_line(event: ReviewEvent) -> bytes:
    """The event as a line of the file, without fields that have their default."""
    content = {key: value for key, value in asdict(event).items() if value not in (None, ())}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def parse_event(line: bytes) -> ReviewEvent:
    """Parse a line; ``ValueError`` with the reason if it is invalid."""
    try:
        event = _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
    if (event.choice is None) == (event.undoes is None):
        raise ValueError("it must have either a choice or an event that it undoes")
    for text in (*event.proposed, *event.lines):
        parse_proposal(text)
    return event


def event_id(*parts: Any) -> str:
    """An id derived from ``parts``, so that importing a table twice adds nothing."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]
