"""The origin of a job: recorded when it is submitted, compared when it starts.

The digests of data sets and teachers come from the check at submission.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from curation.printable import printable
from distill.notices import Notice
from distill.pipeline.fit import Fit
from distill.provenance import Circumstances, Code, Provenance, changes, read_provenance
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
        spec=hashlib.sha256(spec.text.encode()).hexdigest(),
        overrides=spec.overrides,
        written=spec.written if spec.overrides else None,
    )


def changed_since_submit(run: Path, spec: JobSpec, fit: Fit) -> list[Notice]:
    """What has changed in code, data and versions since the job in ``run`` was submitted."""
    before = read_provenance(run)
    if before is None:
        return []
    now = _circumstances(spec, fit, code_on_disk())
    told = "; ".join(changes(before, now))
    return [Notice(CHANGED, f"changed since submission: {told}")] if told else []


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
