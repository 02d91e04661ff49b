"""The transition table, and its copy in docs/daemon.md."""

import re
from itertools import product
from pathlib import Path

import pytest

from distill.daemon.states import TRANSITIONS, Event, State, TransitionRefusedError, next_state

DOCUMENT = Path(__file__).parents[3] / "docs" / "daemon.md"
ROW = re.compile(r"^\| (\w+) \| (\w+) \| (\w+) \|", re.MULTILINE)


def test_the_document_has_exactly_the_transitions_of_the_code() -> None:
    states = {state.value for state in State}
    rows = [row for row in ROW.findall(DOCUMENT.read_text()) if row[0] in states]
    documented = {(State(before), Event(event)): State(after) for before, event, after in rows}
    assert documented == dict(TRANSITIONS)
    assert len(rows) == len(documented), "a line stands twice"


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_an_event_missing_in_the_table_is_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(TransitionRefusedError, match=f"a {state} job cannot {event}"):
            next_state(state, event)


def test_only_a_new_submit_leaves_an_ended_state() -> None:
    leaving = {event for (state, event) in TRANSITIONS if state.ended}
    assert leaving == {Event.SUBMIT}
