"""The listing of our jobs in Slurm, with a `squeue` of our own instead of a cluster."""

import os
import time
from pathlib import Path

import pytest

from distill.daemon import slurm_commands
from distill.daemon.slurm_commands import Entries, SlurmListing


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file; `squeue` waits until it exists, and then prints one job."""
    goes_on, program = tmp_path / "goes-on", tmp_path / "squeue"
    program.write_text(
        f"#!/bin/sh\nwhile [ ! -e '{goes_on}' ]; do sleep 0.02; done\n"
        "echo 'RUNNING|None|distill-old-1'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm_commands, "_WAIT_SECONDS", 0.05)
    return goes_on


def asked(listing: SlurmListing, since: float) -> Entries:
    """A listing that was begun after ``since``."""
    deadline = time.monotonic() + 60
    while (found := listing.entries(since)) is None:
        assert time.monotonic() < deadline
    return found


def test_a_job_submitted_during_a_slow_listing_stays_in_it(squeue: Path) -> None:
    listing, began = SlurmListing(), time.monotonic()
    assert listing.entries() is None  # squeue has looked, and not answered yet
    listing.add("distill-new-1")
    squeue.touch()
    assert set(asked(listing, began)) == {"distill-old-1", "distill-new-1"}
    assert set(asked(listing, time.monotonic())) == {"distill-old-1"}  # it has ended
