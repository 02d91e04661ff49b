"""Jobs and bundles of a workspace, prepared for a comparison."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.json_text import read_json
from curation.toml_text import read_toml
from curation.workspace import Workspace
from distill.comparison import Subject, figures_of, intervals_of
from distill.daemon import client
from distill.daemon.opening import read_queue
from distill.daemon.queue_reading import QueueReader
from distill.daemon.results import outcome_in
from distill.export.bundle_files import check_bundle, files_of


@dataclass(frozen=True)
class Compared:
    """A subject of a comparison, with further information about it."""

    subject: Subject
    state: str
    spec: dict[str, Any] | None
    lacks: str | None
    """Why there is nothing to compare"""


def look(name: str, place: Workspace) -> Compared:
    """A job or run by its name; else a bundle, pulled or by its path."""
    with read_queue(place) as queue:
        return look_in(queue, name, place)


def look_in(queue: QueueReader | None, name: str, place: Workspace) -> Compared:
    """See `look`, with the workspace's queue already open."""
    if "/" not in name and name not in (".", ".."):
        is_job = queue is not None and queue.job(name) is not None
        if is_job or (place.runs / name).is_dir():
            return _job(queue, name, place)
        if (place.bundles / name).is_dir():
            return _bundle(name, place.bundles / name)
    if Path(name).is_dir():
        return _bundle(name, Path(name))
    return _job(queue, name, place)  # raises the error for an unknown name


def _job(queue: QueueReader | None, name: str, place: Workspace) -> Compared:
    outcome = outcome_in(queue, place, name)
    spec = read_toml(client.spec_in(queue, place, name), f"the spec of {name}")
    files = outcome["bundle"]["files"] if outcome["bundle"] else {}
    lacks = None if outcome["evaluation"] else f"{outcome['state']}; no results yet"
    subject = _subject(name, outcome["evaluation"], files)
    return Compared(subject, outcome["state"], spec, lacks)


def _bundle(name: str, folder: Path) -> Compared:
    config, _ = check_bundle(folder)
    files = {each: (folder / each).stat().st_size for each in files_of(config)}
    evaluation = read_json(folder / "evaluation.json")
    return Compared(_subject(name, evaluation, files), "bundle", None, None)


def _subject(name: str, evaluation: Any, files: dict[str, int]) -> Subject:
    sets = evaluation.get("sets") if isinstance(evaluation, dict) else None
    reports = sets if isinstance(sets, dict) else {}
    digests = {
        str(each): str(report["digest"])
        for each, report in reports.items()
        if isinstance(report, dict) and "digest" in report
    }
    deployed = {each: size for each, size in files.items() if each.startswith("model")}
    figures = {str(each): figures_of(report) for each, report in reports.items()}
    intervals = {str(each): intervals_of(report) for each, report in reports.items()}
    return Subject(name=name, figures=figures, intervals=intervals, digests=digests, sizes=deployed)
