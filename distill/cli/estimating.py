"""`check --estimate`: prints the cost of a job."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from curation.progress import spoken
from curation.workspace import Workspace
from distill.cli.reports import print_below, print_table
from distill.cli.screen import note
from distill.resources import in_megabytes

if TYPE_CHECKING:
    from distill.pipeline.estimate import JobCost, StepCost
    from distill.pipeline.fit import Fit
    from distill.spec_text import SpecFile


def estimated(spec: "SpecFile", workspace: Workspace, fit: "Fit", as_json: bool) -> dict[str, Any]:
    """The measured cost as JSON; also prints it unless JSON was requested."""
    from distill.pipeline.estimate import LIMIT, estimate

    if (awaited := _awaited(spec, fit)) is not None:
        raise UserError(
            f"{spec.origin}: another job has yet to make {awaited}, so nothing can be measured; "
            "estimate again when that job is done"
        )
    if not as_json:
        note(f"measuring a few steps of each kind, about {LIMIT:.0f} s at most ...")
    found = estimate(spec.job, workspace, fit)
    if not as_json:
        _show(found)
    return {
        "seconds": found.seconds,
        "disk_bytes": found.disk_bytes,
        "cache_bytes": found.cache_bytes,
        "memory_bytes": found.memory_bytes,
        "gpu_memory_bytes": found.gpu_memory_bytes,
        "free_bytes": found.free_bytes,
        "measured_seconds": round(found.measured_seconds, 1),
        "steps": [asdict(step) for step in found.steps],
    }


def _awaited(spec: "SpecFile", fit: "Fit") -> str | None:
    """The network that another job has yet to train, if there is one."""
    teacher, student = spec.job.teacher, spec.job.student
    if teacher is not None and teacher.network is None and fit.teacher is None:
        return "the teacher"
    if student is not None and student.source is not None and fit.old is None:
        return "the network in student.from"
    return None


def _show(found: "JobCost") -> None:
    rows = [[step.name, step.state, *_cost(step), step.note] for step in found.steps]
    print_table(["step", "state", "time", "disk", "what"], rows, numbers=["time", "disk"])
    if all(step.state == "done" for step in found.steps):
        print_below("every step is done: nothing left to compute")
        return
    total = "the time of a step is unknown"
    if found.seconds is not None:
        total = f"about {spoken(found.seconds)} in all"
    memory = in_megabytes(found.memory_bytes)
    if found.gpu_memory_bytes is not None:
        memory += f", and {in_megabytes(found.gpu_memory_bytes)} of a GPU"
    disk, cache, free = map(in_megabytes, (found.disk_bytes, found.cache_bytes, found.free_bytes))
    print_below(
        f"{total}, measured in {found.measured_seconds:.0f} s on this machine as it is now\n"
        f"disk: {disk}, {cache} of it for the teacher's embeddings; {free} are free\n"
        f"memory: {memory} in each process"
    )


def _cost(step: "StepCost") -> tuple[str, str]:
    if step.state == "done":
        return "-", "-"
    time = "?" if step.seconds is None else spoken(step.seconds)
    return time, in_megabytes(step.disk_bytes) if step.disk_bytes else "-"
