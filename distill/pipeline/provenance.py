"""The origin of a job: recorded when it is submitted, compared when it starts.

The digests of data sets and teachers come from the check at submission.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from curation.errors import UserError
from curation.printable import printable
from curation.workspace import Workspace
from distill.notices import Notice
from distill.pipeline.fit import Fit, check_job
from distill.provenance import (
    Circumstances,
    Code,
    Provenance,
    changes,
    input_changes,
    read_provenance,
)
from distill.software import code_on_disk, versions
from distill.spec import JobSpec
from distill.spec_text import SpecFile

CHANGED = "changed since submission"
"""The key of notices about changes since submission"""


def provenance(spec: SpecFile, fit: Fit, code: Code) -> Provenance:
    """The origin of a spec that was just checked."""
    found = _circumstances(spec.job, fit, code)
    return Provenance(
        **dict(found),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        file=printable(spec.origin)[:1000],
        spec=_digest(spec),
        overrides=spec.overrides,
        written=spec.written if spec.overrides else None,
    )


def changed_since_submit(run: Path, spec: JobSpec, fit: Fit) -> list[Notice]:
    """What has changed in code, data and versions since the job in ``run`` was submitted."""
    before = read_provenance(run)
    if before is None:
        return []
    now = _circumstances(spec, fit, code_on_disk())
    changed = "; ".join(changes(before, now))
    return [Notice(CHANGED, f"changed since submission: {changed}")] if changed else []


def changed_since_run(run: Path, spec: SpecFile, fit: Fit, code: Code) -> list[Notice]:
    """Which inputs have changed since the same spec was last submitted, or run by hand."""
    before = read_provenance(run)
    if before is None or before.spec != _digest(spec):
        return []
    changed = "; ".join(input_changes(before, _circumstances(spec.job, fit, code)))
    if not changed:
        return []
    text = f"changed since the last run: {changed}; what depends on it is computed again"
    return [Notice("changed since the last run", text)]


def done_with_other_inputs(run: Path, spec: SpecFile, workspace: Workspace) -> list[str]:
    """A warning if data sets or networks have changed since this job was submitted and done."""
    before = read_provenance(run)
    if before is None:
        return []
    try:
        fit = check_job(spec, workspace)
    except UserError:  # an input is no longer there, and the job does not need it
        return []
    changed = "; ".join(input_changes(before, _circumstances(spec.job, fit, before.code)))
    if not changed:
        return []
    return [f"changed since the job was submitted: {changed}; give the job another name to use it"]


def _digest(spec: SpecFile) -> str:
    return hashlib.sha256(spec.text.encode()).hexdigest()


def _circumstances(spec: JobSpec, fit: Fit, code: Code) -> Circumstances:
    given = spec.teacher.sources.values() if spec.teacher is not None else ()
    name = " + ".join(str(source.source) for source in given)[:1000]
    return Circumstances(
        code=code,
        versions=versions(),
        data=fit.data,
        teacher={} if fit.teacher is None else {name: fit.teacher.digest},
        beginning=_beginning(spec, fit),
    )


def _beginning(spec: JobSpec, fit: Fit) -> dict[str, str]:
    if fit.old is None or spec.student is None:
        return {}
    return {str(spec.student.source)[:1000]: fit.old.digest}
