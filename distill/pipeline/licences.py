"""The licences of a job's network: those stated in its spec and those of its source bundles."""

from typing import Any

from curation.errors import UserError
from curation.json_text import read_record
from curation.workspace import Workspace
from distill.export.bundle_files import LARGEST_JSON
from distill.export.config import BundleConfig, Terms, licence_of_weights
from distill.network_spec import StudentSpec, TeacherSource
from distill.spec import JobSpec
from distill.spec_checks import teacher_path


def licences(spec: JobSpec, workspace: Workspace) -> list[dict[str, Any]]:
    """`Terms` as JSON: of the weights, the data, the teachers and their training data, and the
    network that the student starts from."""
    given = spec.licence
    found = [Terms(of="weights", name=spec.name, licence=given.weights)]
    found += [
        Terms(of="data", name=each.set, licence=given.of_data(each.set)) for each in spec.data.sets
    ]
    for source in spec.teacher.sources.values() if spec.teacher is not None else ():
        name = source.source or ""
        inherited = _inherited(source, workspace)
        found.append(
            Terms(
                of="teacher",
                name=name,
                licence=given.of_teacher(name) or licence_of_weights(inherited),
            )
        )
        found += _through(name, inherited)
    student = spec.student
    if student is not None and student.source is not None:
        inherited = _inherited(student, workspace)
        licence = given.beginning or licence_of_weights(inherited)
        found.append(Terms(of="beginning", name=student.source, licence=licence))
        found += _through(student.source, inherited)
    return [each.model_dump(mode="json") for each in found]


def _inherited(source: TeacherSource | StudentSpec, workspace: Workspace) -> tuple[Terms, ...]:
    """The licences that a bundle states; none for a file or an older bundle."""
    if source.preprocessing is not None:
        return ()
    try:
        path = teacher_path(source, workspace) / "config.json"
        config = read_record(path, BundleConfig, LARGEST_JSON)
    except UserError:
        return ()  # it was already opened, and its faults were reported then
    return () if config.origin is None else config.origin.licences


def _through(name: str, terms: tuple[Terms, ...]) -> list[Terms]:
    return [
        each.model_copy(update={"through": (name, *each.through)})
        for each in terms
        if each.of != "weights"
    ]
