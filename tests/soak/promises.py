"""What the daemon has promised so far, and whether it is kept."""

import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon.attempts import Attempt
from distill.daemon.queue import Job
from distill.daemon.runfolder import read_exit_record
from distill.daemon.service import open_queue
from distill.daemon.states import TRANSITIONS, Event, State
from tests.soak.daemon import SLOTS


@dataclass
class Promises:
    """What was answered to the user, and what was seen that must not change again."""

    workspace: Workspace
    specs: dict[str, set[str]] = field(default_factory=dict)
    """Of every job that was acknowledged: its spec; several where an answer did not come."""
    ended: dict[str, Job] = field(default_factory=dict)
    """Jobs as they were at their end: they stay so until they are submitted again."""
    cancels: set[str] = field(default_factory=set)
    """Jobs that were asked to be cancelled since their last submit"""
    steps: dict[str, set[str]] = field(default_factory=dict)
    """Of every job, the finished steps, each with what it holds"""

    def asked(self, name: str, spec: str) -> None:
        """A submit is under way: from now on the job may be of this spec, and run again."""
        self.ended.pop(name, None)
        if name in self.specs:
            self.specs[name].add(spec)

    def acknowledged(self, name: str, spec: str) -> None:
        self.specs[name] = {spec}

    def broken(self) -> list[str]:
        """Every promise that is not kept, in words."""
        # Of one moment: the daemon may end a job between two looks.
        with open_queue(self.workspace) as queue, queue.exclusive():
            jobs = {job.name: job for job in queue.jobs()}
            histories = {name: queue.history(name) for name in jobs}
        faults = [f"{name} is lost" for name in self.specs.keys() - jobs.keys()]
        running = [job.name for job in jobs.values() if job.state is State.RUNNING]
        if len(running) > SLOTS:
            faults.append(f"{len(running)} jobs run in {SLOTS} slots")
        for name, job in jobs.items():
            walked = [(line.event, line.state, line.attempt) for line in histories[name]]
            found = [*self._of_job(job), *_of_history(job, walked), *self._of_folders(name)]
            faults += [f"{name} ({job.state}, attempt {job.attempt}): {fault}" for fault in found]
            if job.state.ended:
                self.ended.setdefault(name, job)
        return faults

    def _of_job(self, job: Job) -> list[str]:
        faults = []
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
        """Of its run folder and those that were set aside."""
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
    """The finished steps of a run folder with what they hold."""
    return [f"{path.name} {path.read_text()}" for path in folder.glob("step-*")]


def _of_history(job: Job, walked: list[tuple[Event, State, int]]) -> list[str]:
    """Whether the lines of history lead from nothing to where the job is, one attempt at a time."""
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


def wait_until_settled(promises: Promises, patience: float) -> list[str]:
    """Those that are stuck: not at their end after so many seconds in peace."""
    deadline = time.monotonic() + patience
    while (left := promises.unsettled()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
