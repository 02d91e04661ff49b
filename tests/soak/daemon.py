"""A real daemon for the jobs of the soak: ``python -m tests.soak.daemon WORKSPACE``."""

import os
import sys
import tomllib
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import names, outcome, server

SLOTS, GPUS = 3, 2
JOB = Path(__file__).with_name("job.py")


def command(run: Path) -> list[str]:
    return [sys.executable, "-S", str(JOB), str(run)]


def check(text: str) -> names.Checked:
    """Accept any TOML as a spec."""
    tomllib.loads(text)
    return names.Checked()


def pretend_gpus(folder: Path) -> None:
    """Put an `nvidia-smi` that lists some GPUs first in the path."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"GPU {number}: none (UUID: GPU-{number})\n" for number in range(GPUS))
    written = folder / f"nvidia-smi.{os.getpid()}"
    written.write_text(f"#!/bin/sh\ncat <<END\n{lines}END\n")
    written.chmod(0o755)
    written.rename(folder / "nvidia-smi")  # whole at any moment: daemons are killed here too
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


if __name__ == "__main__":
    pretend_gpus(Path(sys.argv[1]) / "bin")
    outcome.BACK_OFF_SECONDS = (0.1, 0.3)
    server.log_to_stderr()
    server.serve(Workspace(Path(sys.argv[1])), slots=SLOTS, command=command, check=check, grace=0.5)
