"""Submits specs from files: each is parsed once and checked as by `distill check`."""

import dataclasses
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from curation.errors import UserError, results_of
from curation.toml_text import read_toml
from curation.workspace import Workspace
from distill.daemon import client
from distill.daemon.names import Checked, teachers_in
from distill.daemon.placing import Placing
from distill.daemon.submitting import Answer, Submission
from distill.pipeline.fit import Fit, check_job
from distill.pipeline.provenance import changed_since_run, done_with_other_inputs, provenance
from distill.provenance import Code
from distill.software import code_on_disk
from distill.spec_overrides import parse_override
from distill.spec_source import UNNAMED_SPEC
from distill.spec_text import SpecFile


def checked(spec: SpecFile, fit: Fit, code: Code, workspace: Workspace) -> Checked:
    """The warnings and the record of a valid spec."""
    run = workspace.runs / spec.job.name
    notices = [*fit.notices, *changed_since_run(run, spec, fit, code)]
    warnings = tuple(notice.text for notice in notices)
    return Checked(warnings=warnings, provenance=provenance(spec, fit, code))


def submit_files(
    workspace: Workspace,
    paths: Sequence[Path],
    overrides: Sequence[str],
    replace: bool,
    placing: Placing,
) -> list[Submission]:
    """Queue the specs in ``paths``, modified by ``--set``; see ``client.submit_all``."""
    try:
        return _submit(workspace, paths, overrides, replace, placing)
    except UserError as error:
        if len(paths) == 1:
            raise
        raise UserError(f"{error}\n  none of the {len(paths)} jobs is queued") from None


def _submit(
    workspace: Workspace,
    paths: Sequence[Path],
    overrides: Sequence[str],
    replace: bool,
    placing: Placing,
) -> list[Submission]:
    if len(paths) > 1:
        _check_name_is_not_set(overrides)
    specs = results_of([partial(SpecFile.read, path, overrides) for path in paths])
    _check_names_differ(specs)
    by_name = {spec.job.name: spec for spec in specs}
    code = cache(code_on_disk)

    def check(text: str) -> Checked:
        # The text of an existing job may differ in comments from the one that is submitted.
        spec = dataclasses.replace(by_name[read_toml(text, UNNAMED_SPEC)["name"]], text=text)
        queued = client.unfinished(workspace, teachers_in(text))
        coming = queued | {each.job.name for each in specs}
        fit = check_job(spec, workspace, coming - {spec.job.name})
        return checked(spec, fit, code(), workspace)

    texts = {name: spec.text for name, spec in by_name.items()}
    made = client.submit_all(workspace, texts, replace, check, placing)
    return [_with_changes(each, by_name[each.job.name], workspace) for each in made]


def _with_changes(made: Submission, spec: SpecFile, workspace: Workspace) -> Submission:
    """With a warning if the job is done and its inputs have changed since."""
    if made.answer is not Answer.ALREADY_DONE:
        return made
    changed = done_with_other_inputs(workspace.runs / spec.job.name, spec, workspace)
    return dataclasses.replace(made, warnings=(*made.warnings, *changed))


def _check_name_is_not_set(overrides: Sequence[str]) -> None:
    for each in map(parse_override, overrides):
        if each.parts == ("name",):
            raise UserError(
                f"{each.shown}: several specs cannot have the same name; submit them separately"
            )


def _check_names_differ(specs: Sequence[SpecFile]) -> None:
    named: dict[str, SpecFile] = {}
    for spec in specs:
        other = named.setdefault(spec.job.name, spec)
        if other is not spec:
            both = f"{other.origin} and {spec.origin}"
            if other.origin == spec.origin:
                both = f"{spec.origin} is given twice: both"
            raise UserError(f"{both} are the job {spec.job.name!r}; give each job once")
