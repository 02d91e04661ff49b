"""Any order of events: the queue equals a plain model of it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from distill.daemon.dependencies import CircleError
from distill.daemon.outcome import MAXIMUM_ATTEMPTS, Outcome
from distill.daemon.placing import Placing
from distill.daemon.queue import Queue
from distill.daemon.states import State, TransitionRefusedError
from tests.distill.daemon.outcomes import CANCELLED, FAILURE, LOST, SUCCESS


class QueueMachine(RuleBasedStateMachine):
    """Any order of events: the file always equals a plain model of it."""

    names = Bundle("names")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.queue = Queue(Path(self.folder.name) / "queue.sqlite")
        self.now = 0.0
        self.model: dict[str, State] = {}
        self.starts: dict[str, int] = {}
        self.losses: dict[str, int] = {}
        self.order: list[str] = []
        self.priorities: dict[str, int] = {}
        self.held: set[str] = set()
        self.drained = False
        self.due: dict[str, float] = {}
        self.after: dict[str, frozenset[str]] = {}
        self.pausing: set[str] = set()

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()

    @rule(
        target=names,
        name=st.sampled_from(["a", "b", "c"]),
        priority=st.sampled_from([None, -1, 0, 2]),
        hold=st.booleans(),
        after=st.none() | st.frozensets(st.sampled_from(["a", "b", "c"])),
    )
    def submit(
        self, name: str, priority: int | None, hold: bool, after: frozenset[str] | None
    ) -> str:
        if after is not None:
            after &= self.model.keys() | {name}
        placing = Placing(priority=priority, hold=hold, after=after and tuple(after))
        running = self.model.get(name) is State.RUNNING
        if not running and self._is_circle(name, after):
            before = self.queue.job(name)
            with pytest.raises(CircleError):
                self.queue.submit(name, "spec", self.now, placing)
            assert self.queue.job(name) == before
            after, placing = frozenset(), Placing(priority=priority, hold=hold, after=())
        if running:
            with pytest.raises(TransitionRefusedError):
                self.queue.submit(name, "spec", self.now, placing)
        else:
            self.queue.submit(name, "spec", self.now, placing)
            self.after[name] = self.after.get(name, frozenset()) if after is None else after
            self.model[name], self.losses[name], self.due[name] = State.QUEUED, 0, 0.0
            self.order = [other for other in self.order if other != name] + [name]
            self._place(name, priority)
            self._hold(name, hold)
        return name

    @rule(seconds=st.sampled_from([0.0, 1.0, 100.0]))
    def claim(self, seconds: float) -> None:
        self.now += seconds
        job = self.queue.claim(self.now)
        assert (job.name if job else None) == self._next()
        if job is not None:
            self.starts[job.name] = self.starts.get(job.name, 0) + 1
            assert job.attempt == self.starts[job.name]
            self.model[job.name] = State.RUNNING

    def _next(self) -> str | None:
        """The job that starts next: the highest priority, then the first submitted."""
        due = [name for name in self.order if self._is_due(name) and not self.drained]
        return max(due, key=lambda name: self.priorities[name], default=None)

    def _is_due(self, name: str) -> bool:
        waits = self.model[name] is State.QUEUED and name not in self.held
        met = all(self.model[other] is State.DONE for other in self.after[name])
        return waits and met and self.now >= self.due[name]

    def _is_circle(self, name: str, after: frozenset[str] | None) -> bool:
        """Whether the job would wait for itself, directly or indirectly."""
        ahead = set(self.after.get(name, ()) if after is None else after)
        for _ in self.model:
            for other in [each for each in ahead if each in self.model]:
                if not self.model[other].ended and other != name:
                    ahead |= self.after[other]
        return name in ahead

    def _place(self, name: str, priority: int | None) -> None:
        before = self.priorities.get(name, 0)
        self.priorities[name] = before if priority is None else priority

    def _hold(self, name: str, hold: bool) -> None:
        (self.held.add if hold else self.held.discard)(name)

    @rule(drained=st.booleans())
    def drain_or_undrain(self, drained: bool) -> None:
        if drained:
            self.queue.drain(self.now)
        else:
            self.queue.undrain()
        self.drained = drained

    @rule(name=names, pause=st.booleans())
    def pause_or_resume(self, name: str, pause: bool) -> None:
        move = self.queue.pause if pause else self.queue.resume
        if not self.model[name].ended:
            move(name, self.now)
            self._hold(name, pause)
            if pause and self.model[name] is State.RUNNING:
                self.pausing.add(name)
        else:
            with pytest.raises(TransitionRefusedError):
                move(name, self.now)

    @precondition(lambda self: State.QUEUED in self.model.values())
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        queued = [name for name in self.order if self.model[name] is State.QUEUED]
        name = data.draw(st.sampled_from(queued))
        rest = [other for other in self.order if other != name]
        others = [
            other
            for other in queued
            if other != name and self.priorities[other] == self.priorities[name]
        ]
        to = data.draw(st.sampled_from(["first", "last", *others]))
        if to == "first":
            self.queue.move_first(name)
            self.order = [name, *rest]
        elif to == "last":
            self.queue.move_last(name)
            self.order = [*rest, name]
        else:
            self.queue.move_before(name, to)
            place = rest.index(to)
            self.order = [*rest[:place], name, *rest[place:]]

    @precondition(lambda self: State.QUEUED in self.model.values())
    @rule(data=st.data(), priority=st.sampled_from([None, -1, 0, 2]), hold=st.booleans())
    def place(self, data: st.DataObject, priority: int | None, hold: bool) -> None:
        queued = sorted(name for name, state in self.model.items() if state is State.QUEUED)
        name = data.draw(st.sampled_from(queued))
        self.queue.place(name, Placing(priority=priority, hold=hold), self.now)
        self._place(name, priority)
        self._hold(name, hold or name in self.held)

    @rule(name=names, outcome=st.sampled_from([SUCCESS, FAILURE, LOST]), late=st.booleans())
    def settle(self, name: str, outcome: Outcome, late: bool) -> None:
        attempt = self.starts.get(name, 0) - late
        if late or self.model[name] is not State.RUNNING:
            with pytest.raises(TransitionRefusedError):
                self.queue.settle(name, attempt, lambda cancelled: outcome, self.now)
            return
        wanted = self.queue.job(name)
        assert wanted is not None
        cancelled_before = wanted.cancel_requested_at is not None
        after = self.queue.settle(
            name, attempt, lambda cancelled: CANCELLED if cancelled else outcome, self.now
        )
        self.model[name] = self._expected(name, outcome, cancelled_before)
        self.pausing.discard(name)
        if self.model[name].ended:
            self.held.discard(name)
        assert after.state is self.model[name]
        self.due[name] = after.not_before

    def _expected(self, name: str, outcome: Outcome, cancelled: bool) -> State:
        if cancelled:
            return State.CANCELLED
        if outcome is LOST and name in self.pausing:
            return State.QUEUED
        if outcome is LOST:
            self.losses[name] += 1
            return State.FAILED if self.losses[name] >= MAXIMUM_ATTEMPTS else State.QUEUED
        return State.DONE if outcome is SUCCESS else State.FAILED

    @rule(name=names)
    def cancel(self, name: str) -> None:
        self.queue.request_cancel(name, self.now)
        if self.model[name] is State.QUEUED:
            self.model[name] = State.CANCELLED
            self.held.discard(name)

    @precondition(lambda self: self.model)
    @rule()
    def reopen(self) -> None:
        self.queue.close()
        self.queue = Queue(self.queue.path)

    @invariant()
    def same_as_the_model(self) -> None:
        assert {job.name: job.state for job in self.queue.jobs()} == self.model

    @invariant()
    def held_and_placed_as_said(self) -> None:
        jobs = self.queue.jobs()
        assert (self.queue.drained_since() is not None) is self.drained
        assert {job.name for job in jobs if job.held} == self.held
        assert {job.name: job.priority for job in jobs} == self.priorities
        assert {name: frozenset(self.queue.after(name)) for name in self.model} == self.after
        assert {job.name for job in jobs if self.queue.in_vain(job.name)} == self._doomed()

    def _doomed(self) -> set[str]:
        """Jobs that depend on a failed or cancelled job, directly or indirectly."""
        bad = {name for name, state in self.model.items() if state.ended} - {
            name for name, state in self.model.items() if state is State.DONE
        }
        behind: set[str] = set()
        for _ in self.model:
            waiting = {name for name in behind if self.model[name] is State.QUEUED}
            behind = {name for name in self.model if self.after[name] & (bad | waiting)}
        return behind

    @invariant()
    def the_history_ends_in_the_state(self) -> None:
        for name, state in self.model.items():
            assert self.queue.history(name)[-1].state is state


QueueMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


test_any_order_of_events_follows_the_model = QueueMachine.TestCase
