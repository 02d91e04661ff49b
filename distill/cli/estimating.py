"""`check --estimate`: prints the cost of a job."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from curation.progress import spoken
from curation.workspace import Workspace
from distill.cli.reports import print_below, print_table
from distill.cli.screen import note

if TYPE_CHECKING:
    from distill.pipeline.estimate import JobCost, StepCost
    from distill.pipeline.fit import Fit
    from distill.spec_text import SpecFile


def estimated(spec: "SpecFile", workspace: Workspace, fit: "Fit", as_json: bool) -> dict[str, Any]:
    """The measured cost as JSON; also prints it unless JSON was requested."""
    from distill.pipeline.estimate import LIMIT, estimate

    if fit.teacher is None and _awaits_teacher(spec):
        raise UserError(
            f"{spec.origin}: another job has yet to make the teacher, so nothing can be measured; "
            f"estimate again when that job is done"
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


def _awaits_teacher(spec: "SpecFile") -> bool:
    return spec.job.teacher is not None and spec.job.teacher.network is None


def _show(found: "JobCost") -> None:
    rows = [[step.name, step.state, *_cost(step), step.note] for step in found.steps]
    print_table(["step", "state", "time", "disk", "what"], rows, numbers=["time", "disk"])
    if all(step.state == "done" for step in found.steps):
        print_below("every step is done: nothing left to compute")
        return
    total = "the time of a step is unknown"
    if found.seconds is not None:
        total = f"about {spoken(found.seconds)} in all"
    memory = _size(found.memory_bytes)
    if found.gpu_memory_bytes is not None:
        memory += f", and {_size(found.gpu_memory_bytes)} of a GPU"
    print_below(
        f"{total}, measured in {found.measured_seconds:.0f} s on this machine as it is now\n"
        f"disk: {_size(found.disk_bytes)}, {_size(found.cache_bytes)} of it for the teacher's "
        f"embeddings; {_size(found.free_bytes)} are free\n"
        f"memory: {memory} in each process"
    )


def _cost(step: "StepCost") -> tuple[str, str]:
    if step.state == "done":
        return "-", "-"
    time = "?" if step.seconds is None else spoken(step.seconds)
    return time, _size(step.disk_bytes) if step.disk_bytes else "-"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 999_500_000 else f"{count / 1e6:,.0f} MB"
