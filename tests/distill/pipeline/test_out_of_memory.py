"""A job that needs more memory than available ends with one line, on screen and on record."""

import errno
import json
import shutil
import subprocess
import sys

import pytest
import torch

from curation.workspace import Workspace
from distill.pipeline.record import failure, is_out_of_memory

SPEC = """
name = "huge"
data = { train = "drawn/train" }
student = { backbone = "iresnet200", width = 8.0 }
[[stage]]
epochs = 1
losses = { arcface = {} }
[train]
batch_size = 48
ranks = 1
"""
LIMIT = 6 << 30
"""Bytes of address space: enough for torch, but not for the network."""


@pytest.mark.slow
def test_a_job_without_enough_memory_says_so_in_one_line(tmp_path, drawn_store):
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(drawn_store.path, workspace.datasets / "drawn" / "train.lmdb")
    (tmp_path / "huge.toml").write_text(SPEC)
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({LIMIT}, {LIMIT}))\n"
        "from distill.cli.main import main; main()"
    )
    arguments = ["run", str(tmp_path / "huge.toml"), "--workspace", str(workspace.root)]
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    last = "error: no memory left; lower train.batch_size and submit again"
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, last)
    assert "Traceback" not in ran.stderr
    record = json.loads((workspace.runs / "huge" / "failure.json").read_text())
    assert record["reason"] == "no memory left"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_kinds_of_too_little_memory_are_one(error, tmp_path):
    assert is_out_of_memory(error)
    assert failure(error, tmp_path)[0] == "no memory left"


def test_another_error_is_none_of_memory(tmp_path):
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
