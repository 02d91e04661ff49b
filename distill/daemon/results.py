"""The results of a job, from the queue and its run folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.delivery import bundle_of
from distill.daemon.opening import read_queue
from distill.daemon.queue_reading import QueueReader
from distill.daemon.refusals import unknown_job
from distill.daemon.runfolder import in_use
from distill.daemon.states import State
from distill.provenance import parse_provenance, read_provenance
from distill.run_directory import (
    RUNNER,
    read_evaluation,
    read_failure,
    read_warnings,
    steps_now,
)
from distill.spec_source import check_name


def outcome_of(place: Workspace, name: str) -> dict[str, Any]:
    """Everything that `show` displays, from the queue and the run folder."""
    with read_queue(place) as queue:
        return outcome_in(queue, place, name)


def outcome_in(queue: QueueReader | None, place: Workspace, name: str) -> dict[str, Any]:
    """See `outcome_of`, with the workspace's queue already open: opening it checks all of it."""
    run = place.runs / check_name(name)
    job = None if queue is None else queue.job(name)
    if job is None and not run.is_dir():
        raise unknown_job(name, [], place)
    # A run started by hand was never queued; its process holds the folder until it ends.
    failure = job or read_failure(run)
    is_running = in_use(run) if job is None else job.state is State.RUNNING
    kept = None if queue is None else queue.provenance(name)
    origin = parse_provenance(kept) if kept else read_provenance(run)
    gpus = [] if queue is None else queue.gpus().get(name, [])
    return {
        "name": name,
        "state": job.state if job else _without_queue(run),
        "reason": failure and failure.reason,
        "hint": failure and failure.hint,
        "run": str(run),
        "gpus": [gpu.number for gpu in gpus],
        "provenance": origin and origin.model_dump(mode="json"),
        "steps": steps_now(run, is_running),
        "warnings": read_warnings(run),
        "evaluation": read_evaluation(run),
        "bundle": _bundle(place, name),
    }


def _without_queue(run: Path) -> str:
    """The state shown for a run without a job in the queue."""
    return "not in the queue" if (run / RUNNER).exists() else "run by hand"


def _bundle(place: Workspace, name: str) -> dict[str, Any] | None:
    """The path of the bundle, and its files with their sizes in bytes.

    Links that lead out of it are left out.
    """
    try:
        path = bundle_of(place, name)
    except UserError:
        return None
    folder = path.resolve()
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.resolve().is_relative_to(folder)
    ]
    sizes = {str(file.relative_to(path)): file.stat().st_size for file in files}
    return {"path": str(path), "files": sizes}


def reports_of(evaluation: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Network, set, and measurements."""
    networks = evaluation.get("networks")
    if not isinstance(networks, dict) or not networks:
        networks = {"student": evaluation}
    for network, scored in networks.items():
        sets = scored.get("sets") if isinstance(scored, dict) else None
        for name, report in (sets if isinstance(sets, dict) else {}).items():
            yield str(network), str(name), report
