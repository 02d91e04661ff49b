"""The licences of a job's network: those that its spec says, and of the bundles it comes from."""

from typing import Any

from curation.errors import UserError
from curation.json_text import read_record
from curation.workspace import Workspace
from distill.export.bundle_files import LARGEST_JSON
from distill.export.config import BundleConfig, Terms
from distill.spec import JobSpec, StudentSpec, TeacherSource
from distill.spec_checks import teacher_path


def licences(spec: JobSpec, workspace: Workspace) -> list[dict[str, Any]]:
    """`Terms` as JSON: of the weights, of the data, of teachers and what those learned from, and of
    the network that the student begins with."""
    said = spec.licence
    found = [Terms(of="weights", name=spec.name, licence=said.weights)]
    found += [
        Terms(of="data", name=each.set, licence=said.of_data(each.set)) for each in spec.data.sets
    ]
    for source in spec.teacher.sources.values() if spec.teacher is not None else ():
        name = source.source or ""
        inherited = _inherited(source, workspace)
        found.append(
            Terms(of="teacher", name=name, licence=said.of_teacher(name) or _of_weights(inherited))
        )
        found += _through(name, inherited)
    student = spec.student
    if student is not None and student.source is not None:
        inherited = _inherited(student, workspace)
        licence = said.beginning or _of_weights(inherited)
        found.append(Terms(of="beginning", name=student.source, licence=licence))
        found += _through(student.source, inherited)
    return [each.model_dump(mode="json") for each in found]


def _inherited(source: TeacherSource | StudentSpec, workspace: Workspace) -> tuple[Terms, ...]:
    """Those that a bundle says; none of a file, and of a bundle of before."""
    if source.preprocessing is not None:
        return ()
    try:
        path = teacher_path(source, workspace) / "config.json"
        config = read_record(path, BundleConfig, LARGEST_JSON)
    except UserError:
        return ()  # it was opened already: what is wrong with it has been said
    return () if config.origin is None else config.origin.licences


def _of_weights(terms: tuple[Terms, ...]) -> str | None:
    return next((each.licence for each in terms if each.of == "weights"), None)


def _through(name: str, terms: tuple[Terms, ...]) -> list[Terms]:
    return [
        each.model_copy(update={"through": (name, *each.through)})
        for each in terms
        if each.of != "weights"
    ]
