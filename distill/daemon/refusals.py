"""Errors about a job: its name is unknown, or its state does not allow the request."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from curation.errors import UserError
from curation.printable import argument
from curation.suggestions import hint
from curation.workspace import Workspace
from distill.daemon.dependencies import CircleError
from distill.daemon.job import Job
from distill.daemon.queue_reading import QueueReader
from distill.daemon.runfolder import OLD_RUN
from distill.run_directory import RUNNER, SPEC
from distill.spec_source import check_name


class UnknownJobError(UserError):
    """No job has this name."""


class ConflictError(UserError):
    """The state of the job does not allow the request."""


@contextmanager
def no_circle() -> Iterator[None]:
    """Raise ``ConflictError`` if the block would make a job wait for itself."""
    try:
        yield
    except CircleError as error:
        raise ConflictError(f"{error}; `distill status` shows which job waits for which") from None


def existing_job(queue: QueueReader, name: str, workspace: Workspace) -> Job:
    """One job of the workspace's queue; ``UnknownJobError`` if the name is unknown."""
    job = queue.job(check_name(name))
    if job is None:
        raise unknown_job(name, queue.names(), workspace)
    return job


def unknown_job(name: str, known: Iterable[str], workspace: Workspace) -> UserError:
    """The error for a name that is neither one of the ``known`` jobs nor a run folder."""
    runs = [run.name for run in workspace.runs.glob("[!.]*") if run.is_dir()]
    if name in runs and (workspace.runs / name / RUNNER).exists():
        return UnknownJobError(
            f"job {name!r} is not in the queue, which was lost or replaced since it ran; `distill "
            f"show {name}` shows its results, and "
            f"`distill submit {argument(workspace.runs / name / SPEC)}` continues it"
        )
    if name in runs:
        return UnknownJobError(
            f"job {name!r} was run with `distill run` and is not in the queue; `distill show "
            f"{name}` and `distill logs {name}` show its results"
        )
    names = set(known) | {run for run in runs if OLD_RUN not in run}
    if not names:
        return UnknownJobError(
            f"there is no job {name!r}: the workspace {workspace.root} has no jobs; submit one "
            f"with "
            "`distill submit jobs/sample.toml`, or name another workspace with --workspace"
        )
    advice = hint(name, sorted(names), "`distill status` shows them")
    return UnknownJobError(f"there is no job {name!r} in the workspace {workspace.root}{advice}")
