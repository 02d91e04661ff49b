"""Submitting a spec from a file: it is parsed once and checked here, as `distill check` does."""

from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import client
from distill.daemon.placing import Placing
from distill.daemon.service import Submission
from distill.pipeline.fit import check_job
from distill.spec_text import SpecFile


def submit_file(workspace: Workspace, path: Path, replace: bool, placing: Placing) -> Submission:
    """Queue the spec in ``path``: see ``client.submit``."""
    spec = SpecFile.read(path)

    def check(text: str) -> list[str]:
        return [notice.text for notice in check_job(spec, workspace).notices]

    return client.submit(workspace, spec.job.name, spec.text, replace, check, placing)
