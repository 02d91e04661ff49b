"""The states of a job and the allowed transitions. Pure; docs/daemon.md has the same table."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether only a new submit can change the state."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Event(StrEnum):
    """What moves a job from state to state."""

    SUBMIT = "submit"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    INTERRUPT = "interrupt"
    WAIT = "wait"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class TransitionRefusedError(Exception):
    """The event does not apply to the job's state, or comes from an old attempt."""


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.QUEUED, Event.SUBMIT): State.QUEUED,
        (State.QUEUED, Event.START): State.RUNNING,
        (State.QUEUED, Event.CANCEL): State.CANCELLED,
        (State.QUEUED, Event.PAUSE): State.QUEUED,
        (State.QUEUED, Event.RESUME): State.QUEUED,
        (State.RUNNING, Event.SUCCEED): State.DONE,
        (State.RUNNING, Event.FAIL): State.FAILED,
        (State.RUNNING, Event.INTERRUPT): State.QUEUED,
        (State.RUNNING, Event.WAIT): State.QUEUED,
        (State.RUNNING, Event.PAUSE): State.QUEUED,
        (State.RUNNING, Event.CANCEL): State.CANCELLED,
        (State.DONE, Event.SUBMIT): State.QUEUED,
        (State.FAILED, Event.SUBMIT): State.QUEUED,
        (State.CANCELLED, Event.SUBMIT): State.QUEUED,
    }
)


def next_state(state: State, event: Event) -> State:
    """The state after ``event``; ``TransitionRefusedError`` if the table has no such entry."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise TransitionRefusedError(f"a {state} job cannot {event}") from None
