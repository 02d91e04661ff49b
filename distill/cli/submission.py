"""Submitting a spec from a file: it is parsed once and checked here, as `distill check` does."""

from collections.abc import Sequence
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import client
from distill.daemon.placing import Placing
from distill.daemon.service import Submission
from distill.pipeline.fit import check_job
from distill.spec_text import SpecFile


def submit_file(
    workspace: Workspace,
    path: Path,
    overrides: Sequence[str],
    replace: bool,
    placing: Placing,
) -> Submission:
    """Queue the spec in ``path``, with what ``--set`` says: see ``client.submit``."""
    spec = SpecFile.read(path, overrides)

    def check(text: str) -> list[str]:
        coming = client.unfinished(workspace, spec.job.name)
        return [notice.text for notice in check_job(spec, workspace, coming).notices]

    return client.submit(workspace, spec.job.name, spec.text, replace, check, placing)
