"""A real daemon that runs the jobs of the soak: ``python -m tests.soak.daemon WORKSPACE``."""

import sys
import tomllib
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import names, outcome, server

SLOTS = 3
JOB = Path(__file__).with_name("job.py")


def command(run: Path) -> list[str]:
    return [sys.executable, "-S", str(JOB), str(run)]


def check(text: str) -> names.Checked:
    """Any TOML is a spec here."""
    tomllib.loads(text)
    return names.Checked()


if __name__ == "__main__":
    outcome.BACK_OFF_SECONDS = (0.1, 0.3)
    server.log_to_stderr()
    server.serve(Workspace(Path(sys.argv[1])), slots=SLOTS, command=command, check=check, grace=0.5)
