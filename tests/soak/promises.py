"""The daemon's promises so far, and checks that they are kept."""

import sqlite3
import time
import tomllib
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from curation.workspace import QUEUE_FILE, Workspace
from distill.daemon.attempts import Attempt
from distill.daemon.job import Job
from distill.daemon.opening import open_queue
from distill.daemon.runfolder import read_exit_record
from distill.daemon.states import TRANSITIONS, Event, State
from tests.soak.daemon import SLOTS


@dataclass
class Promises:
    """The answers to the user, and observed facts that must not change."""

    workspace: Workspace
    specs: dict[str, set[str]] = field(default_factory=dict)
    """The spec of every acknowledged job; several if an answer was lost"""
    ended: dict[str, Job] = field(default_factory=dict)
    """Jobs at their end, which must not change until they are submitted again"""
    cancels: set[str] = field(default_factory=set)
    """Jobs whose cancel was requested since their last submit"""
    paused: set[str] = field(default_factory=set)
    """Jobs that must not run before they are resumed or submitted again"""
    after: dict[str, tuple[int, set[str]]] = field(default_factory=dict)
    """The jobs after which a job must start, and the last line of history before that submit"""
    drain: int | None = None
    """The last line of history before an acknowledged drain, after which no job may start"""
    steps: dict[str, set[str]] = field(default_factory=dict)
    """The finished steps of every job with their contents"""

    def asked(self, name: str, spec: str) -> None:
        """A submit is in progress: the job may now have this spec and run again."""
        self.ended.pop(name, None)
        self.resumed(name)
        self.after.pop(name, None)
        if name in self.specs:
            self.specs[name].add(spec)

    def acknowledged(self, name: str, spec: str, after: Collection[str] | None) -> None:
        """``after`` is given if the job starts from scratch."""
        self.specs[name] = {spec}
        if after is not None:
            self.after[name] = (self._last_line(), set(after))

    def resumed(self, name: str) -> None:
        """The job may now run."""
        self.paused.discard(name)

    def drained(self) -> None:
        """No job may start from now on."""
        with open_queue(self.workspace) as queue:
            if queue.drained_since() is not None and self.drain is None:
                self.drain = self._last_line()

    def undrained(self) -> None:
        self.drain = None

    def _last_line(self) -> int:
        return max((number for number, *_ in self._history()), default=0)

    def _history(self) -> list[tuple[int, str, str, str]]:
        """Number, job, event and state of every line of all histories."""
        path = self.workspace.daemon / QUEUE_FILE
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            rows = connection.execute("SELECT id, job, event, state FROM transitions ORDER BY id")
            return rows.fetchall()

    def broken(self) -> list[str]:
        """Every broken promise, in words."""
        # Read in one transaction: the daemon may end a job between two reads.
        with open_queue(self.workspace) as queue, queue.exclusive():
            # The progress of other jobs is not part of an ended job's final state.
            jobs = {job.name: replace(job, unmet=0) for job in queue.jobs()}
            histories = {name: queue.history(name) for name in jobs}
            lines = self._history()
            gpus = {name: len(held) for name, held in queue.gpus().items()}
        faults = [f"{name} is lost" for name in self.specs.keys() - jobs.keys()]
        faults += self._of_starts(lines)
        running = [job.name for job in jobs.values() if job.state is State.RUNNING]
        if len(running) > SLOTS:
            faults.append(f"{len(running)} jobs run in {SLOTS} slots")
        wanted = {name: jobs[name].demand.gpus for name in running if jobs[name].demand.gpus}
        if gpus != wanted:
            faults.append(f"the ledger has {gpus}, and those that run need {wanted}")
        for name, job in jobs.items():
            walked = [(line.event, line.state, line.attempt) for line in histories[name]]
            found = [*self._of_job(job), *_of_history(job, walked), *self._of_folders(name)]
            faults += [f"{name} ({job.state}, attempt {job.attempt}): {fault}" for fault in found]
            if job.state.ended:
                self.ended.setdefault(name, job)
        return faults

    def _of_starts(self, lines: list[tuple[int, str, str, str]]) -> list[str]:
        """Starts during a drain, and starts before a prerequisite job has ended."""
        faults, states = [], dict[str, str]()
        for number, name, event, state in lines:
            if event == Event.START:
                if self.drain is not None and number > self.drain:
                    faults.append(f"{name} started while nothing should")
                since, ahead = self.after.get(name, (number, set()))
                early = [other for other in ahead if states.get(other) != State.DONE]
                if number > since and early:
                    faults.append(f"{name} started before {early} was done")
            states[name] = state
        return faults

    def _of_job(self, job: Job) -> list[str]:
        faults = []
        if job.name in self.paused and job.state is State.RUNNING:
            faults.append("it runs and is paused")
        if job.spec not in self.specs.get(job.name, {job.spec}):
            faults.append("it has another spec than the one acknowledged")
        if job != self.ended.get(job.name, job):
            faults.append(f"it had ended: {self.ended[job.name].state}")
        run = self.workspace.runs / job.name
        record = read_exit_record(Attempt(run, job.attempt, job.attempt_id))
        status = None if record is None else record.exit_status
        if job.state is State.DONE:
            steps = tomllib.loads(job.spec)["steps"]
            if status != 0:
                faults.append(f"it is done, and its exit record says {status}")
            if not all((run / f"step-{step}").exists() for step in range(steps)):
                faults.append("it is done, and steps are missing")
        as_it_should = (status, job.reason) == (3, "as its spec says")
        gave_up = "gave up after 3" in str(job.reason)
        if job.state is State.FAILED and not (as_it_should or gave_up):
            faults.append(f"it failed: {job.reason}")
        if job.state is State.CANCELLED and job.name not in self.cancels:
            faults.append("nobody cancelled it")
        return faults

    def _of_folders(self, name: str) -> list[str]:
        """Check the job's run folder and those that were set aside."""
        folders = [self.workspace.runs / name, *self.workspace.runs.glob(f"{name}.old-*")]
        faults = []
        for path in (folder / "violation.txt" for folder in folders):
            if path.exists():
                faults.append(path.read_text())
        for path in (folder / "lives.txt" for folder in folders):
            lives = path.read_text().split() if path.exists() else []
            if len(lives) != len(set(lives)):
                faults.append(f"an attempt ran twice: {lives}")
        there = {text for folder in folders for text in _steps(folder)}
        kept = self.steps.setdefault(name, set())
        if kept - there:
            faults.append(f"finished steps are gone: {sorted(kept - there)}")
        kept |= there
        return faults

    def unsettled(self) -> list[str]:
        """The jobs that have not ended."""
        with open_queue(self.workspace) as queue:
            return [
                f"{job.name} ({job.state}, attempt {job.attempt}, {job.reason})"
                for job in queue.jobs()
                if not job.state.ended
            ]


def _steps(folder: Path) -> list[str]:
    """The finished steps of a run folder with their contents."""
    return [f"{path.name} {path.read_text()}" for path in folder.glob("step-*")]


def _of_history(job: Job, walked: list[tuple[Event, State, int]]) -> list[str]:
    """Whether the history leads from the start to the job's state, one attempt at a time."""
    faults = []
    state, attempt = State.QUEUED, 0
    for number, (event, after, at) in enumerate(walked):
        if number and TRANSITIONS.get((state, event)) is not after:
            faults.append(f"{state} became {after} by {event}")
        attempt += event is Event.START
        if at != attempt:
            faults.append(f"{event} of attempt {at} after {attempt} starts")
        state = after
    if (state, attempt) != (job.state, job.attempt):
        faults.append(f"its history ends with {state}, attempt {attempt}")
    return faults


def wait_until_settled(
    promises: Promises, patience: float, give_up: Callable[[], object]
) -> list[str]:
    """The stuck jobs: those that have not ended after this many undisturbed seconds.

    ``give_up`` ends jobs that wait in vain; those are not stuck.
    """
    deadline = time.monotonic() + patience
    while (left := promises.unsettled()) and time.monotonic() < deadline:
        give_up()
        time.sleep(0.2)
    return left
