"""What the HTTP API answers with, and how it is made from the queue."""

import os
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from curation.printable import printable
from distill import __version__
from distill.daemon.job import Job
from distill.daemon.reports import JobReport, report
from distill.daemon.service import JobService
from distill.daemon.states import State
from distill.daemon.submitting import Answer
from distill.daemon.waiting import Surroundings, surroundings


class Health(BaseModel):
    """The state of the daemon and its workload."""

    model_config = ConfigDict(frozen=True)

    pid: int
    version: str
    workspace: str
    slots: int
    drained: bool
    """No job starts"""
    jobs: dict[State, int]


class Submitted(BaseModel):
    """The response to a submit, sent after it is on disk."""

    model_config = ConfigDict(frozen=True)

    answer: Answer
    job: JobReport
    warnings: tuple[str, ...] = ()
    """Settings of the job that have no effect"""


class Problem(BaseModel):
    """Every error, as one line that says what to do."""

    error: str


@dataclass(frozen=True)
class Reporting:
    """Reports on the daemon and its jobs, as the endpoints send them."""

    service: JobService
    slots: int

    def health(self) -> Health:
        """The daemon's state and workload at this moment."""
        service = self.service
        return Health(
            pid=os.getpid(),
            version=__version__,
            workspace=printable(service.workspace.root),  # need not be UTF-8
            slots=self.slots,
            drained=service.queue.drained_since() is not None,
            jobs=service.queue.counts(),
        )

    def around(self, jobs: list[Job]) -> Surroundings:
        """The part of the queue that the reports of ``jobs`` need."""
        service = self.service
        runs = service.workspace.runs
        return surroundings(service.queue, self.slots, runs, jobs, service.capacity())

    def shown(self, job: Job) -> JobReport:
        """The report of one job."""
        return report(job, self.around([job]))
