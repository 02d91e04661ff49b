"""Checks a job spec received over HTTP by running `distill check` in a separate process.

A check may take seconds, a gigabyte and torch, none of which should be in the daemon.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from curation.errors import UserError
from curation.json_text import parse_record
from curation.workspace import Workspace
from distill.daemon.names import Checked, SpecCheck
from distill.last_words import error_in, last_line
from distill.spec_source import UNNAMED_SPEC

_CHECK_SECONDS = 120.0


def spec_check(workspace: Workspace) -> SpecCheck:
    """The check of real job specs: specs that `distill run` would refuse are not queued."""

    def check(text: str) -> Checked:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "spec.toml"
            path.write_text(text, encoding="utf-8", newline="")
            try:
                checked = _check(path, workspace)
            except UserError as error:
                raise UserError(str(error).replace(str(path), UNNAMED_SPEC)) from None
        if checked.provenance is None:
            return checked
        origin = checked.provenance.model_copy(update={"file": UNNAMED_SPEC})
        return checked.model_copy(update={"provenance": origin})

    return check


def _check(path: Path, workspace: Workspace) -> Checked:
    """``UserError`` with the fault of the spec."""
    command = [sys.executable, "-m", "distill.cli.main", "check", "--json", str(path)]
    try:
        checked = subprocess.run(
            [*command, "--workspace", str(workspace.root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{UNNAMED_SPEC} could not be checked in {_CHECK_SECONDS:.0f} s; submit it again"
        ) from None
    if checked.returncode == 0:
        return parse_record(checked.stdout, Checked)
    text = checked.stderr.decode(errors="replace")
    raise UserError(error_in(text) or f"{UNNAMED_SPEC} cannot be checked: {last_line(text)}")
