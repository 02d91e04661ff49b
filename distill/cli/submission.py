"""Submitting a spec from a file: it is parsed once and checked here, as `distill check` does."""

from collections.abc import Sequence
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import client
from distill.daemon.names import Checked
from distill.daemon.placing import Placing
from distill.daemon.service import Submission
from distill.pipeline.fit import Fit, check_job
from distill.pipeline.provenance import provenance
from distill.provenance import Code
from distill.software import code_on_disk
from distill.spec_text import SpecFile


def checked(spec: SpecFile, fit: Fit, code: Code) -> Checked:
    """What is said, and kept, of a spec that can be run."""
    warnings = tuple(notice.text for notice in fit.notices)
    return Checked(warnings=warnings, provenance=provenance(spec, fit, code))


def submit_file(
    workspace: Workspace,
    path: Path,
    overrides: Sequence[str],
    replace: bool,
    placing: Placing,
) -> Submission:
    """Queue the spec in ``path``, with what ``--set`` says: see ``client.submit``."""
    spec = SpecFile.read(path, overrides)

    def check(text: str) -> Checked:
        coming = client.unfinished(workspace, spec.job.name)
        return checked(spec, check_job(spec, workspace, coming), code_on_disk())

    return client.submit(workspace, spec.job.name, spec.text, replace, check, placing)
