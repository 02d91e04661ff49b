"""Two ranks are started once for all tests of this folder: they take seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def on_two_ranks(tmp_path_factory):
    """What distillation_ranks.py found on each of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    script = str(Path(__file__).with_name("distillation_ranks.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*command, "--nproc-per-node", "2", script, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]
