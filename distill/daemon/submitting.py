"""Submits: each is checked separately, and those that wait are queued in one transaction."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from graphlib import CycleError, TopologicalSorter

from curation.errors import UserError, results_of
from curation.workspace import Workspace
from distill.daemon.demand import demand_of, excess
from distill.daemon.job import Job
from distill.daemon.machine import Machine
from distill.daemon.names import Checked, SpecCheck, teachers_in
from distill.daemon.placing import AS_BEFORE, Placing
from distill.daemon.queue import Queue
from distill.daemon.refusals import ConflictError, existing_job, no_circle
from distill.daemon.runfolder import freeze_provenance, freeze_spec, frozen_spec, in_use
from distill.daemon.states import Event, State, TransitionRefusedError, next_state
from distill.run_directory import BUNDLE
from distill.spec_difference import another_spec, is_same_spec


class Answer(StrEnum):
    """The result of a submit."""

    QUEUED = "queued"
    AGAIN = "queued again"
    REPLACED = "replaced"
    ALREADY_QUEUED = "already queued"
    CHANGED = "already queued, changed"
    ALREADY_RUNNING = "already running"
    ALREADY_DONE = "already done"


_NOTHING_TO_DO = frozenset({Answer.ALREADY_QUEUED, Answer.ALREADY_RUNNING, Answer.ALREADY_DONE})


@dataclass(frozen=True)
class Submission:
    """The response to a submit, given after it is on disk; ``warnings`` are about settings of the
    job without effect."""

    answer: Answer
    job: Job
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A submit of one or several specs that have been checked."""

    specs: Mapping[str, str]
    """By the names in their texts"""
    replace: bool
    placing: Placing
    checked: Mapping[str, Checked]
    """The findings about those that are to be queued"""


Outcome = list[Submission] | Exception
"""The results in the order of the specs; or why none of them is queued."""


class Submits:
    """Submits to a workspace's queue."""

    def __init__(
        self,
        workspace: Workspace,
        queue: Queue,
        check: SpecCheck,
        capacity: Callable[[], Machine | None],
    ) -> None:
        """``capacity`` returns the resources that jobs share, if this daemon assigns them."""
        self._workspace = workspace
        self._queue = queue
        self._check = check
        self._capacity = capacity

    def prepare(self, specs: Mapping[str, str], replace: bool, placing: Placing) -> Prepared:
        """Check the specs, which takes seconds, without queueing them or locking the queue.

        Raises ``UserError`` for a spec that cannot run.
        """

        def check(name: str, spec: str) -> Checked | None:
            if self._answer(name, spec, replace) in _NOTHING_TO_DO:
                return None
            self._refuse_excess(name, spec)
            return self._check(spec)

        specs = {name: self._as_known(name, spec) for name, spec in specs.items()}
        found = results_of([partial(check, name, spec) for name, spec in specs.items()])
        pairs = zip(specs, found, strict=True)
        checked = {name: each for name, each in pairs if each is not None}
        return Prepared(specs=specs, replace=replace, placing=placing, checked=checked)

    def _as_known(self, name: str, spec: str) -> str:
        """The text of the job or run folder of this name if only comments or layout differ."""
        job = self._queue.job(name)
        known = frozen_spec(self._workspace.runs / name) if job is None else job.spec
        return known if known is not None and is_same_spec(known, spec) else spec

    def queue_all(self, submits: Sequence[Prepared]) -> list[Outcome]:
        """Queue these submits in order, in one transaction; returns the result of each.

        All specs of a submit are queued, or none. A refused submit does not affect the others.
        """
        with self._queue.exclusive():  # two submits of one name must not both find it free
            outcomes = [self._tried(each) for each in submits]
        for outcome in outcomes:
            for submission in [] if isinstance(outcome, Exception) else outcome:
                if submission.answer not in _NOTHING_TO_DO:
                    self.show(submission.job.name)
        return outcomes

    def _tried(self, submit: Prepared) -> Outcome:
        try:
            with self._queue.undone_alone():
                made = {name: self._submit(submit, name) for name in _teachers_first(submit.specs)}
        except sqlite3.Error:
            raise  # the queue cannot be written, and the transaction is rolled back
        except Exception as error:
            return error
        return [made[name] for name in submit.specs]

    def _submit(self, submit: Prepared, name: str) -> Submission:
        spec, checked = submit.specs[name], submit.checked.get(name)
        answer = self._answer(name, spec, submit.replace)
        if answer in _NOTHING_TO_DO:
            return self._already(answer, name, submit.placing)
        if checked is None:
            raise ConflictError(f"job {name!r} changed at the same time; submit it again")
        placed = self._with_teachers(name, spec, submit.placing)
        with no_circle():
            job = self._queue.submit(name, spec, time.time(), placed)
        if checked.provenance is not None:
            self._queue.keep_provenance(name, checked.provenance.model_dump_json())
        return Submission(answer, job, checked.warnings)

    def _refuse_excess(self, name: str, spec: str) -> None:
        """Raise ``UserError`` if the job asks for more than the machine has."""
        demand = demand_of(spec)
        if demand.fits_anywhere or (machine := self._capacity()) is None:
            return
        if (why := excess(demand, machine)) is not None:
            raise UserError(f"job {name!r} needs {why}; change [resources] of its spec")

    def _already(self, answer: Answer, name: str, placing: Placing) -> Submission:
        """Nothing new is queued; the placing applies to a job that waits."""
        with self._queue.exclusive():
            job = self._job(name)
            if placing == AS_BEFORE:
                return Submission(answer, job)
            if job.state is not State.QUEUED:
                warning = (
                    f"{name} is {job.state}: priority, label, hold and after are for jobs that wait"
                )
                return Submission(answer, job, (warning,))
            before = (job, self._queue.after(name))
            if placing.after is not None:
                placing = self._with_teachers(name, job.spec, placing)
            with no_circle():
                placed = self._queue.place(name, placing, time.time())
            changed = before != (placed, self._queue.after(name))
        return Submission(Answer.CHANGED if changed else answer, placed)

    def _with_teachers(self, name: str, spec: str, placing: Placing) -> Placing:
        """The placing, with dependencies on the jobs of the queue that train the teachers.

        Omitted values are kept, unless this is another spec. Raises ``UnknownJobError`` if a named
        dependency is not in the queue.
        """
        before = self._queue.job(name)
        kept = self._queue.after(name) if before is not None and before.spec == spec else []
        given = kept if placing.after is None else [self._job(each).name for each in placing.after]
        made = [each for each in teachers_in(spec) if self._makes_teacher(each, name)]
        return replace(placing, after=tuple(dict.fromkeys([*given, *made])))

    def _makes_teacher(self, teacher: str, student: str) -> bool:
        """Whether a job of the queue has trained this teacher, or will."""
        job = None if teacher == student else self._queue.job(teacher)
        made = (self._workspace.runs / teacher / BUNDLE).is_dir()
        return job is not None and (job.state is State.DONE or not made)

    def _answer(self, name: str, spec: str, replace: bool) -> Answer:
        job = self._queue.job(name)
        if job is None:
            return self._answer_without_job(name, spec, replace)
        if job.spec != spec:
            return self._answer_to_another_spec(job, spec, replace)
        if job.cancel_requested_at is not None and job.state is State.RUNNING:
            raise ConflictError(
                f"job {name!r} is being cancelled; submit it again when it has stopped"
            )
        # A done job counts as long as its result exists.
        kept = frozen_spec(self._workspace.runs / name) == spec
        return {
            State.QUEUED: Answer.ALREADY_QUEUED,
            State.RUNNING: Answer.ALREADY_RUNNING,
            State.DONE: Answer.ALREADY_DONE if kept else Answer.AGAIN,
            State.FAILED: Answer.AGAIN,
            State.CANCELLED: Answer.AGAIN,
        }[job.state]

    def _answer_without_job(self, name: str, spec: str, replace: bool) -> Answer:
        """The answer if there is only a folder from a run by hand: the same spec continues it."""
        found = frozen_spec(self._workspace.runs / name)
        if found in (None, spec):
            return Answer.QUEUED
        return self._replaced(name, found, spec, replace)

    def _answer_to_another_spec(self, job: Job, spec: str, replace: bool) -> Answer:
        try:
            next_state(job.state, Event.SUBMIT)
        except TransitionRefusedError:
            raise ConflictError(
                f"{another_spec(job.name, job.spec, spec, 'is running')}; choose another name, "
                f"or `distill cancel {job.name}` first"
            ) from None
        return self._replaced(job.name, job.spec, spec, replace)

    def _replaced(self, name: str, before: str, spec: str, replace: bool) -> Answer:
        if not replace:
            raise ConflictError(
                f"{another_spec(name, before, spec)}; undo the change to continue the job, choose "
                f"another name, or give --replace to set the old run aside as {name}.old-N"
            )
        if in_use(self._workspace.runs / name):
            raise ConflictError(
                f"the run folder of {name!r} is in use; wait until its job has ended"
            )
        return Answer.REPLACED

    def _job(self, name: str) -> Job:
        return existing_job(self._queue, name, self._workspace)

    def show(self, name: str) -> None:
        """Write the spec to the run folder now; the start of the job verifies it again."""
        # The job is already in the queue, and for example a full disk does not undo that.
        with suppress(OSError, UserError), self._queue.exclusive():
            job = self._queue.job(name)
            if job is not None and job.state is State.QUEUED:
                run = self._workspace.runs / name
                freeze_spec(run, job.spec, durable=False)
                freeze_provenance(run, self._queue.provenance(name), durable=False)


def _teachers_first(specs: Mapping[str, str]) -> list[str]:
    """The names in order, except that specs that train teachers of others come first."""
    teachers = {
        name: [each for each in teachers_in(spec) if each in specs and each != name]
        for name, spec in specs.items()
    }
    try:
        return list(TopologicalSorter(teachers).static_order())
    except CycleError as error:
        circle = " of ".join(map(repr, error.args[1]))
        raise ConflictError(f"the teachers form a circle: {circle}") from None
