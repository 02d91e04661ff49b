"""A run without a queue runs as long as a process holds its folder."""

import json
import subprocess
import sys
from contextlib import nullcontext

import pytest

from curation.workspace import Workspace
from distill.daemon.results import outcome_of
from distill.daemon.runfolder import locked

STEPS = [{"name": "embed", "state": "running"}, {"name": "export", "state": "waiting"}]
HOLD = """
import os, signal, sys
from pathlib import Path
from distill.daemon.runfolder import locked
with locked(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def run(tmp_path):
    folder = Workspace(tmp_path).runs / "mine"
    folder.mkdir(parents=True)
    (folder / "steps.json").write_text(json.dumps(STEPS))
    return folder


@pytest.mark.parametrize(
    ("held", "state"), [(locked, "running"), (nullcontext, "stopped")], ids=["held", "free"]
)
def test_the_lock_tells_whether_a_step_runs(tmp_path, run, held, state):
    with held(run):
        told = outcome_of(Workspace(tmp_path), "mine")
    assert [step["state"] for step in told["steps"]] == [state, "waiting"]


def test_no_step_runs_after_a_kill(tmp_path, run):
    subprocess.run([sys.executable, "-c", HOLD, str(run)], check=False)
    assert outcome_of(Workspace(tmp_path), "mine")["steps"][0]["state"] == "stopped"
