"""What can be asked of the queue. The HTTP API and the commands without a daemon both call this."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from graphlib import CycleError, TopologicalSorter

from curation.errors import UserError, results_of
from curation.suggestions import hint
from curation.workspace import QUEUE_FILE, Workspace
from distill.daemon import queue_file
from distill.daemon.demand import demand_of, excess
from distill.daemon.dependencies import CircleError
from distill.daemon.machine import Machine
from distill.daemon.names import Checked, SpecCheck, teachers_in
from distill.daemon.placing import AS_BEFORE, Placing, check_label
from distill.daemon.queue import Job, Queue
from distill.daemon.runfolder import (
    OLD_RUN,
    freeze_provenance,
    freeze_spec,
    frozen_spec,
    in_use,
)
from distill.daemon.states import Event, State, TransitionRefusedError, next_state
from distill.run_directory import BUNDLE, RUNNER, SPEC
from distill.spec_source import check_name

_MOST_NAMED = 5


class UnknownJobError(UserError):
    """No job has this name."""


class ConflictError(UserError):
    """The request does not go with the state of the job."""


class Answer(StrEnum):
    """What a submit came to."""

    QUEUED = "queued"
    AGAIN = "queued again"
    REPLACED = "replaced"
    ALREADY_QUEUED = "already queued"
    CHANGED = "already queued, changed"
    ALREADY_RUNNING = "already running"
    ALREADY_DONE = "already done"


class QueueEnd(StrEnum):
    """Where a queued job is moved to, among those of its priority."""

    FIRST = "first"
    LAST = "last"


_NOTHING_TO_DO = frozenset({Answer.ALREADY_QUEUED, Answer.ALREADY_RUNNING, Answer.ALREADY_DONE})


_STATES_OF = {
    "pause": (State.QUEUED, State.RUNNING),
    "resume": (State.QUEUED, State.RUNNING),
    "move": (State.QUEUED,),
    "retry": (State.FAILED, State.CANCELLED),
}
"""The jobs that each verb is for."""


@dataclass(frozen=True)
class Submission:
    """The answer to a submit, given after it is on the disk; ``warnings`` say what the job asks
    for and will not do anything."""

    answer: Answer
    job: Job
    warnings: tuple[str, ...] = ()


class JobService:
    """The jobs of one workspace."""

    def __init__(
        self,
        workspace: Workspace,
        queue: Queue,
        check: SpecCheck,
        wake: Callable[[], None] = lambda: None,
        capacity: Callable[[], Machine | None] = lambda: None,
    ) -> None:
        """``wake`` is called when the scheduler has reason to look.

        ``capacity`` says what the jobs share, where anybody here shares that out.
        """
        self.workspace = workspace
        self.queue = queue
        self._check = check
        self.capacity = capacity
        self._wake = wake

    def submit(
        self,
        name: str,
        spec: str,
        replace: bool = False,
        placing: Placing = AS_BEFORE,
        turn: Callable[[], None] = lambda: None,
    ) -> Submission:
        """`submit_all` of one spec, whose text gives the job this ``name``."""
        (submission,) = self.submit_all({name: spec}, replace, placing, turn)
        return submission

    def submit_all(
        self,
        specs: Mapping[str, str],
        replace: bool = False,
        placing: Placing = AS_BEFORE,
        turn: Callable[[], None] = lambda: None,
    ) -> list[Submission]:
        """Queue specs, by the names that their texts give; say where there is nothing to do.

        All of them or none. The same spec again is done already, goes on, or is tried again;
        another spec under a name that is taken needs ``replace``, and the old run folder is set
        aside. A job that is queued already takes the ``placing``. Jobs start after jobs of the
        queue, or among these, that make their teachers. ``UserError`` for a spec that cannot run,
        ``ConflictError`` where the name is in the way, or the job would wait for itself. ``turn``
        is called before anything is queued, and waits for those that came before.
        """
        checked = self._checked(specs, replace)  # takes seconds: the queue stays free meanwhile
        turn()
        with self.queue.exclusive():  # two submits of one name must not both find it free
            made = {
                name: self._submit(name, specs[name], replace, placing, checked.get(name))
                for name in _teachers_first(specs)
            }
        for name, submission in made.items():
            if submission.answer not in _NOTHING_TO_DO:
                self._freeze(name)
        self._wake()
        return [made[name] for name in specs]

    def _checked(self, specs: Mapping[str, str], replace: bool) -> dict[str, Checked]:
        """What was found of those that are to be queued; ``UserError`` for all that cannot be."""

        def check(name: str, spec: str) -> Checked | None:
            if self._answer(name, spec, replace) in _NOTHING_TO_DO:
                return None
            self._refuse_excess(name, spec)
            return self._check(spec)

        found = results_of([partial(check, name, spec) for name, spec in specs.items()])
        return {name: each for name, each in zip(specs, found, strict=True) if each is not None}

    def _submit(
        self, name: str, spec: str, replace: bool, placing: Placing, checked: Checked | None
    ) -> Submission:
        answer = self._answer(name, spec, replace)
        if answer in _NOTHING_TO_DO:
            return self._already(answer, name, placing)
        if checked is None:
            raise ConflictError(f"job {name!r} was changed at this very moment; submit it again")
        placed = self._with_teachers(name, spec, placing)
        with _no_circle():
            job = self.queue.submit(name, spec, time.time(), placed)
        if checked.provenance is not None:
            self.queue.keep_provenance(name, checked.provenance.model_dump_json())
        return Submission(answer, job, checked.warnings)

    def _refuse_excess(self, name: str, spec: str) -> None:
        """``UserError`` where the job asks more of the machine than that has."""
        demand = demand_of(spec)
        if demand.says_nothing or (machine := self.capacity()) is None:
            return
        if (why := excess(demand, machine)) is not None:
            raise UserError(f"job {name!r} needs {why}; change [resources] of its spec")

    def _already(self, answer: Answer, name: str, placing: Placing) -> Submission:
        """Nothing new is queued; what is said of the place counts for a job that waits."""
        with self.queue.exclusive():
            job = self.job(name)
            if placing == AS_BEFORE:
                return Submission(answer, job)
            if job.state is not State.QUEUED:
                told = f"{name} is {job.state}: priority, label, hold and after are for jobs that "
                return Submission(answer, job, (f"{told}wait",))
            before = (job, self.queue.after(name))
            if placing.after is not None:
                placing = self._with_teachers(name, job.spec, placing)
            with _no_circle():
                placed = self.queue.place(name, placing, time.time())
            changed = before != (placed, self.queue.after(name))
        return Submission(Answer.CHANGED if changed else answer, placed)

    def _with_teachers(self, name: str, spec: str, placing: Placing) -> Placing:
        """The placing, which also waits for those jobs of the queue that make its teachers.

        What is not said stays as it was, unless this is another spec. ``UnknownJobError`` where the
        queue lacks a job that it says.
        """
        before = self.queue.job(name)
        kept = self.queue.after(name) if before is not None and before.spec == spec else []
        said = kept if placing.after is None else [self.job(each).name for each in placing.after]
        made = [each for each in teachers_in(spec) if self._makes_teacher(each, name)]
        return replace(placing, after=tuple(dict.fromkeys([*said, *made])))

    def _makes_teacher(self, teacher: str, student: str) -> bool:
        """Whether a job of the queue has made this teacher, or is to make it."""
        job = None if teacher == student else self.queue.job(teacher)
        made = (self.workspace.runs / teacher / BUNDLE).is_dir()
        return job is not None and (job.state is State.DONE or not made)

    def pause(self, names: Iterable[str]) -> list[Job]:
        """Keep queued jobs from starting, and have running ones stop after a checkpoint.

        ``ConflictError``, for all, where one has ended or is being cancelled.
        """
        return self._move_all(names, self._pause, "pause")

    def _pause(self, name: str, now: float) -> Job:
        if self.job(name).cancel_requested_at is not None:
            raise ConflictError(f"job {name!r} is being cancelled, and cannot be paused")
        return self.queue.pause(name, now)

    def resume(self, names: Iterable[str]) -> list[Job]:
        """Let paused jobs start (again); ``ConflictError``, for all, where one has ended."""
        return self._move_all(names, self.queue.resume, "resume")

    def move(self, name: str, to: QueueEnd | None = None, before: str | None = None) -> Job:
        """Let a queued job start first or last of its priority, or before another one.

        ``ConflictError`` where one of the two is not queued, or they have different priorities.
        """
        if (to is None) == (before is None):
            raise UserError("say where to move it: first, last, or before another job")
        with self.queue.exclusive():
            jobs = [self.job(each) for each in (name, before) if each is not None]
            if any(job.state is not State.QUEUED for job in jobs):
                raise ConflictError(_refused(jobs, "move"))
            if before is not None:
                self._move_before(*jobs)
            elif to is QueueEnd.FIRST:
                self.queue.move_first(name)
            else:
                self.queue.move_last(name)
        return self.job(name)

    def _move_before(self, job: Job, other: Job) -> None:
        if job.priority != other.priority:
            raise ConflictError(
                f"job {other.name!r} has the priority {other.priority} and {job.name!r} "
                f"{job.priority}: jobs are moved within one priority; submit {job.name!r} again "
                f"with --priority {other.priority} first"
            )
        if job.name != other.name:
            self.queue.move_before(job.name, other.name)

    def retry(self, names: Iterable[str]) -> list[Job]:
        """Queue failed or cancelled jobs again, under the specs that they were submitted with.

        They were checked then and are not checked again. ``ConflictError``, for all, where one has
        not failed and was not cancelled.
        """
        moved = self._move_all(names, self._submit_again, "retry")
        for job in moved:
            self._freeze(job.name)
        return moved

    def _submit_again(self, name: str, now: float) -> Job:
        with _no_circle():
            return self.queue.submit(name, self.job(name).spec, now)

    def drain(self) -> None:
        """Let no job start; those that run go on."""
        self.queue.drain(time.time())

    def undrain(self) -> None:
        """Let jobs start again."""
        self.queue.undrain()
        self._wake()

    def _move_all(
        self, names: Iterable[str], move: Callable[[str, float], Job], verb: str
    ) -> list[Job]:
        with self.queue.exclusive():
            jobs = [self.job(name) for name in dict.fromkeys(names)]
            if any(job.state not in _STATES_OF[verb] for job in jobs):
                raise ConflictError(_refused(jobs, verb))
            moved = [move(job.name, time.time()) for job in jobs]
        self._wake()
        return moved

    def wake(self) -> None:
        """Have the daemon look at the queue; ``sqlite3.Error`` where that is another file now."""
        with self.queue.exclusive():
            self._wake()

    def job(self, name: str) -> Job:
        """One job; ``UnknownJobError`` where there is none."""
        job = self.queue.job(check_name(name))
        if job is None:
            raise unknown_job(name, self.queue.names(), self.workspace)
        return job

    def cancel(self, names: Iterable[str], force: bool = False) -> list[Job]:
        """Cancel jobs: at once where they wait, soon where they run, not at all where they ended.

        With ``force`` running ones are killed, without time for a checkpoint.
        """
        with self.queue.exclusive():
            jobs = [self.job(name) for name in dict.fromkeys(names)]
            now = time.time()
            cancelled = [self.queue.request_cancel(job.name, now, force) for job in jobs]
        self._wake()
        return cancelled

    def cancel_all(self, label: str | None = None, force: bool = False) -> list[Job]:
        """Cancel all jobs that have not ended, or those with a label."""
        if label is not None:
            check_label(label)
        with self.queue.exclusive():
            left = [job for job in self.queue.jobs(label=label) if not job.state.ended]
            return self.cancel([job.name for job in left], force)

    def _answer(self, name: str, spec: str, replace: bool) -> Answer:
        job = self.queue.job(name)
        if job is None:
            return self._answer_without_job(name, spec, replace)
        if job.spec != spec:
            return self._answer_to_another_spec(job, replace)
        if job.cancel_requested_at is not None and job.state is State.RUNNING:
            raise ConflictError(f"job {name!r} is being cancelled; submit it again when it stopped")
        # Done counts as long as what was done is there.
        kept = frozen_spec(self.workspace.runs / name) == spec
        return {
            State.QUEUED: Answer.ALREADY_QUEUED,
            State.RUNNING: Answer.ALREADY_RUNNING,
            State.DONE: Answer.ALREADY_DONE if kept else Answer.AGAIN,
            State.FAILED: Answer.AGAIN,
            State.CANCELLED: Answer.AGAIN,
        }[job.state]

    def _answer_without_job(self, name: str, spec: str, replace: bool) -> Answer:
        """A folder may be there from a run by hand: of the same spec it goes on."""
        found = frozen_spec(self.workspace.runs / name)
        if found in (None, spec):
            return Answer.QUEUED
        return self._replaced(name, replace)

    def _answer_to_another_spec(self, job: Job, replace: bool) -> Answer:
        try:
            next_state(job.state, Event.SUBMIT)
        except TransitionRefusedError:
            raise ConflictError(
                f"job {job.name!r} is running with another spec; choose another name, "
                f"or `distill cancel {job.name}` first"
            ) from None
        return self._replaced(job.name, replace)

    def _replaced(self, name: str, replace: bool) -> Answer:
        if not replace:
            raise ConflictError(
                f"job {name!r} exists with another spec; choose another name, or give --replace "
                f"to set the old run aside as {name}.old-N"
            )
        if in_use(self.workspace.runs / name):
            raise ConflictError(f"the run folder of {name!r} is in use; wait for its end")
        return Answer.REPLACED

    def _freeze(self, name: str) -> None:
        """Show the spec in the run folder already now; the start makes sure of it again."""
        # The job is in the queue already: a full disk, say, does not take that back.
        with suppress(OSError), self.queue.exclusive():
            job = self.queue.job(name)
            if job is not None and job.state is State.QUEUED:
                freeze_spec(self.workspace.runs / name, job.spec)
                freeze_provenance(self.workspace.runs / name, self.queue.provenance(name))


@contextmanager
def _no_circle() -> Iterator[None]:
    try:
        yield
    except CircleError as error:
        raise ConflictError(f"{error}; `distill status` shows who waits for whom") from None


def _teachers_first(specs: Mapping[str, str]) -> list[str]:
    """The names, in their order as far as the specs that make teachers of others come before."""
    teachers = {
        name: [each for each in teachers_in(spec) if each in specs and each != name]
        for name, spec in specs.items()
    }
    try:
        return list(TopologicalSorter(teachers).static_order())
    except CycleError as error:
        circle = " of ".join(map(repr, error.args[1]))
        raise ConflictError(f"each would be taught by the next: {circle}") from None


def _refused(jobs: list[Job], verb: str) -> str:
    at_fault = next(job for job in jobs if job.state not in _STATES_OF[verb])
    states = " or ".join(_STATES_OF[verb])
    others = "; the others are left as they were" if len(jobs) > 1 else ""
    return f"job {at_fault.name!r} is {at_fault.state}, and {verb} is for {states} jobs{others}"


def unknown_job(name: str, known: Iterable[str], workspace: Workspace) -> UserError:
    """The error for a name that neither one of the ``known`` jobs nor a run folder has."""
    runs = [run.name for run in workspace.runs.glob("[!.]*") if run.is_dir()]
    if name in runs and (workspace.runs / name / RUNNER).exists():
        return UnknownJobError(
            f"job {name!r} is not in the queue, which was lost or begun anew since it ran; "
            f"`distill show {name}` tells what came of it, and "
            f"`distill submit {workspace.runs / name / SPEC}` goes on with it"
        )
    if name in runs:
        return UnknownJobError(
            f"job {name!r} was run by hand and is not in the queue; `distill show {name}` and "
            f"`distill logs {name}` tell what came of it"
        )
    names = set(known) | {run for run in runs if OLD_RUN not in run}
    if not names:
        return UnknownJobError(
            f"there is no job {name!r}: the workspace {workspace.root} has none; submit one with "
            "`distill submit jobs/sample.toml`, or name another workspace with --workspace"
        )
    told = hint(name, sorted(names), "`distill status` shows them")
    return UnknownJobError(f"there is no job {name!r} in the workspace {workspace.root}{told}")


@contextmanager
def read_queue(workspace: Workspace) -> Iterator[Queue | None]:
    """The workspace's queue to read, also where nothing can be written; ``None`` where none is.

    SQLite's troubles in the block become the user's one line.
    """
    path = workspace.daemon / QUEUE_FILE
    if not path.exists():
        yield None
        return
    with queue_file.readable(path) as place, Queue(place, named=path) as queue:
        try:
            yield queue
        except sqlite3.Error as error:
            raise UserError(queue_file.trouble(path, error)) from None


def lost_queue(workspace: Workspace) -> UserError | None:
    """The error for run folders of a queue that is not there any more; ``None`` where none are."""
    path = workspace.daemon / QUEUE_FILE
    if path.exists():
        return None
    left = sorted(record.parent.name for record in workspace.runs.glob(f"[!.]*/{RUNNER}"))
    left = [name for name in left if OLD_RUN not in name]
    if not left:
        return None
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return UserError(
        f"the queue {path} is missing, but it ran {', '.join(left[:_MOST_NAMED])}{more}; put a "
        f"copy of it back, or submit the jobs again, each with {queue_file.resubmit(path)}: their "
        "finished steps are found"
    )


def open_queue(workspace: Workspace) -> Queue:
    """The workspace's queue, made where there is none yet, in a folder of the user's own."""
    workspace.daemon.mkdir(parents=True, exist_ok=True)
    workspace.daemon.chmod(0o700)
    return Queue(workspace.daemon / QUEUE_FILE)
