"""The queue on disk: real SQLite files, real processes, real kills."""

import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
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

from curation.errors import UserError
from distill.daemon.dependencies import CircleError
from distill.daemon.outcome import MAXIMUM_ATTEMPTS, Outcome, judge_loss
from distill.daemon.placing import Placing
from distill.daemon.queue import Queue
from distill.daemon.schema import MIGRATIONS
from distill.daemon.states import Event, State, TransitionRefusedError

SUCCESS = Outcome(event=Event.SUCCEED, exit_status=0)
FAILURE = Outcome(event=Event.FAIL, reason="no memory left", exit_status=1)
CANCELLED = Outcome(event=Event.CANCEL, reason="cancelled by the user")
LOST = judge_loss(rebooted=False, cancelled=False)


@pytest.fixture
def queue(tmp_path: Path) -> "Queue":
    return Queue(tmp_path / "queue.sqlite")


def test_jobs_start_in_the_order_of_submission(queue: Queue) -> None:
    for name in ("c", "a", "b"):
        queue.submit(name, "spec", 0.0)
    started = [job.name for _ in range(3) if (job := queue.claim(1.0))]
    assert started == ["c", "a", "b"]
    assert queue.claim(1.0) is None


def test_a_higher_priority_starts_first(queue: Queue) -> None:
    for name, priority in {"a": None, "b": -1, "c": 7, "d": 0, "e": 7}.items():
        queue.submit(name, "spec", 0.0, Placing(priority=priority))
    assert [job.name for _ in range(5) if (job := queue.claim(1.0))] == ["c", "e", "a", "d", "b"]


def test_a_held_job_starts_when_resumed(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0, Placing(hold=True, priority=9))
    queue.submit("b", "spec", 0.0)
    queue.pause("b", 1.0)
    queue.pause("b", 1.0)
    assert queue.claim(2.0) is None
    queue.resume("b", 3.0)
    queue.resume("b", 3.0)
    claimed = queue.claim(4.0)
    assert claimed is not None
    assert claimed.name == "b"
    events = [line.event for line in queue.history("b")]
    assert events == [Event.SUBMIT, Event.PAUSE, Event.RESUME, Event.START]
    queue.settle("b", 1, lambda cancelled: SUCCESS, 5.0)
    for move in (queue.pause, queue.resume):
        with pytest.raises(TransitionRefusedError, match="a done job cannot"):
            move("b", 6.0)


def test_a_paused_attempt_is_no_interruption(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    for attempt in range(1, MAXIMUM_ATTEMPTS + 3):
        assert queue.claim(1.0) is not None
        queue.pause("a", 2.0)
        queue.pause("a", 3.0)
        job = queue.settle("a", attempt, lambda cancelled: LOST, 4.0)
        assert (job.state, job.held, job.interruptions, job.reason) == (State.QUEUED, True, 0, None)
        assert queue.claim(4.0) is None
        queue.resume("a", 5.0)
    assert [line.event for line in queue.history("a")][:4] == [
        Event.SUBMIT,
        Event.START,
        Event.PAUSE,
        Event.RESUME,
    ]


def test_a_job_resumed_before_it_stopped_starts_again_at_once(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.pause("a", 2.0)
    queue.resume("a", 3.0)
    job = queue.settle("a", 1, lambda cancelled: LOST, 4.0)
    assert (job.state, job.held, job.interruptions) == (State.QUEUED, False, 0)
    again = queue.claim(4.0)
    assert again is not None
    assert (again.attempt, again.pause_requested_at) == (2, None)
    assert queue.settle("a", 2, lambda cancelled: LOST, 5.0).interruptions == 1


@pytest.mark.parametrize(("outcome", "state"), [(SUCCESS, State.DONE), (FAILURE, State.FAILED)])
def test_a_job_that_ends_while_it_is_paused_has_ended(
    queue: Queue, outcome: Outcome, state: State
) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.pause("a", 2.0)
    job = queue.settle("a", 1, lambda cancelled: outcome, 4.0)
    assert (job.state, job.held, job.pause_requested_at) == (state, False, None)


def test_a_cancel_wins_over_a_pause(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.pause("a", 2.0)
    queue.request_cancel("a", 3.0, force=True)
    job = queue.settle("a", 1, lambda cancelled: CANCELLED if cancelled else LOST, 4.0)
    assert (job.state, job.held, job.forced) == (State.CANCELLED, False, True)
    again = queue.submit("a", "spec", 5.0)
    assert not again.forced
    assert again.pause_requested_at is again.cancel_requested_at is None


def test_queued_jobs_are_moved_within_their_priority(queue: Queue) -> None:
    for name in "abcde":
        queue.submit(name, "spec", 0.0)
    queue.submit("urgent", "spec", 0.0, Placing(priority=1))

    def order() -> str:
        jobs = queue.jobs(State.QUEUED)
        return "".join(job.name for job in jobs if not job.priority)

    queue.move_first("c")
    assert order() == "cabde"
    queue.move_last("a")
    assert order() == "cbdea"
    queue.move_before("e", "c")
    assert order() == "ecbda"
    queue.move_before("e", "a")
    assert order() == "cbdea"
    queue.move_before("b", "d")
    assert order() == "cbdea"
    queue.move_last("a")
    queue.move_first("c")
    assert order() == "cbdea"
    assert [job.name for _ in range(3) if (job := queue.claim(1.0))] == ["urgent", "c", "b"]
    queue.submit("f", "spec", 0.0)
    assert order() == "deaf"


def test_a_new_submit_keeps_priority_and_label_and_no_hold(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0, Placing(hold=True, priority=3, label="x"))
    queue.request_cancel("a", 1.0)
    again = queue.submit("a", "spec", 2.0)
    assert (again.held, again.priority, again.label) == (False, 3, "x")
    other = queue.submit("a", "spec", 3.0, Placing(priority=0, label=""))
    assert (other.priority, other.label) == (0, "")


@pytest.mark.parametrize("label", ["a b", "-a", "a\n", "é", "a" * 65, "\x1b[31m", "a|b", "{}"])
def test_a_label_is_one_plain_word(label: str) -> None:
    with pytest.raises(UserError, match="is not a label"):
        Placing(label=label)


@pytest.mark.parametrize("priority", [1001, -1001, 10**5000], ids=["above", "below", "huge"])
def test_a_priority_has_a_range(priority: int) -> None:
    with pytest.raises(UserError, match="between -1000 and 1000"):
        Placing(priority=priority)


def test_returned_rows_persist_after_reopening(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    done = queue.settle("a", 1, lambda cancelled: SUCCESS, 2.0)
    queue.close()
    with Queue(queue.path) as again:
        assert again.job("a") == done
        assert [line.event for line in again.history("a")] == [
            Event.SUBMIT,
            Event.START,
            Event.SUCCEED,
        ]


def test_an_interrupted_job_waits_before_it_is_due_again(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(10.0)
    waiting = queue.settle("a", 1, lambda cancelled: LOST, 20.0)
    assert waiting.state is State.QUEUED
    assert waiting.not_before > 20.0
    assert queue.claim(20.0) is None
    again = queue.claim(waiting.not_before)
    assert again is not None
    assert again.attempt == 2


def test_a_late_report_from_an_old_attempt_changes_nothing(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.settle("a", 1, lambda cancelled: LOST, 2.0)
    running = queue.claim(1000.0)
    with pytest.raises(TransitionRefusedError, match="is over"):
        queue.settle("a", 1, lambda cancelled: FAILURE, 1001.0)
    assert queue.job("a") == running


def test_a_cancel_between_the_look_and_the_verdict_is_not_lost(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.request_cancel("a", 2.0)
    after = queue.settle("a", 1, lambda cancelled: CANCELLED if cancelled else LOST, 3.0)
    assert after.state is State.CANCELLED


def test_a_running_job_cannot_be_submitted_again(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    with pytest.raises(TransitionRefusedError):
        queue.submit("a", "other", 2.0)
    job = queue.job("a")
    assert job is not None
    assert job.spec == "spec"


def test_a_new_submit_never_reuses_an_attempt_number(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.settle("a", 1, lambda cancelled: FAILURE, 2.0)
    again = queue.submit("a", "spec", 3.0)
    assert (again.state, again.reason, again.interruptions) == (State.QUEUED, None, 0)
    claimed = queue.claim(4.0)
    assert claimed is not None
    assert claimed.attempt == 2


def test_threads_claim_every_job_exactly_once(queue: Queue) -> None:
    names = [f"job-{number}" for number in range(24)]
    for name in names:
        queue.submit(name, "spec", 0.0)
    claimed: list[str] = []

    def claim_all() -> None:
        with Queue(queue.path) as mine:
            while (job := mine.claim(1.0)) is not None:
                claimed.append(job.name)

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(names)


def test_acknowledged_submits_survive_kill_9_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    Queue(path).close()
    dice = random.Random(5)
    acknowledged: set[str] = set()
    for number in range(40):
        acknowledged |= _submit_until_killed(path, number, after=dice.uniform(0.0, 0.06))
    with Queue(path) as queue:
        assert acknowledged <= {job.name for job in queue.jobs()}
        assert len(acknowledged) > 10


def _submit_until_killed(path: Path, number: int, after: float) -> set[str]:
    """A process that submits endlessly, killed after a while; returns what was acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        queue = Queue(path)
        os.write(writer, b"begun\n")
        for count in range(10_000):
            queue.submit(f"job-{number}-{count}", "spec", 0.0)
            os.write(writer, f"job-{number}-{count}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        pipe.readline()
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return {line.decode().strip() for line in pipe if line.endswith(b"\n")}


@pytest.mark.parametrize(
    "content",
    [b"not a database, but long enough to be one" * 100, b"SQLite format 3\0" + b"\xff" * 9000],
)
def test_a_damaged_queue_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.*finished steps are reused"):
        Queue(path)
    assert path.read_bytes() == content


def test_a_damaged_page_is_found_at_opening(queue: Queue) -> None:
    for number in range(200):
        queue.submit(f"job-{number}", "spec" * 50, 0.0)
    queue.close()
    content = bytearray(queue.path.read_bytes())
    content[8192:12288] = b"\xaa" * 4096
    queue.path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        Queue(queue.path)


def test_a_queue_of_a_newer_version_is_left_alone(queue: Queue) -> None:
    queue.close()
    connection = sqlite3.connect(queue.path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(UserError, match="newer software"):
        Queue(queue.path)


def test_a_folder_in_place_of_the_queue_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        Queue(tmp_path)


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
