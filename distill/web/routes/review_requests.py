"""What the review's page sends."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from curation.noise.decisions import Action
from curation.review.events import MOST_LINES, Choice

MOST_CASES = 12
MOST_LATER = 1000
_Name = Annotated[str, Field(max_length=400)]
_Id = Annotated[str, Field(pattern="^[0-9A-Za-z._-]{1,60}$")]
_Keys = Annotated[tuple[_Name, ...], Field(max_length=4 * MOST_CASES)]
_Later = Annotated[tuple[_Name, ...], Field(max_length=MOST_LATER)]
_Index = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    set: _Name
    who: _Name


class NextWanted(_Sent):
    """A request for more cases, listing those the page already holds, and those put off."""

    count: Annotated[int, Field(ge=1, le=MOST_CASES)] = 4
    check: _Name | None = None
    held: _Keys = ()
    later: _Later = ()


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
