"""The clock: back-off, ages and the order of files depend on it."""

import os
import tempfile
import time
from collections.abc import Iterator

from curation.files import nearest_folder
from curation.workspace import Workspace
from distill.doctor.examination import Diagnosis, check, ok, warning, wrong

_BEGIN_OF_TIME = 1_735_689_600.0  # 2025-01-01
_WATCHED_SECONDS = 0.5
MOST_JUMP, MOST_SKEW = 0.25, 2.0
"""Seconds"""


@check("clock")
def clock(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether the clock is set, runs evenly, and agrees with that of the file system."""
    before = time.time() - time.monotonic()
    time.sleep(_WATCHED_SECONDS)
    jump = time.time() - time.monotonic() - before
    yield judge_clock(time.time(), jump)
    folder = nearest_folder(workspace.root)
    if os.access(folder, os.W_OK):
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            yield judge_skew(os.fstat(file.fileno()).st_mtime - time.time())


def judge_clock(now: float, jump: float) -> Diagnosis:
    """``jump`` is the difference in seconds between wall clock and monotonic clock."""
    if now < _BEGIN_OF_TIME:
        return wrong(f"it is set to {time.strftime('%Y-%m-%d', time.gmtime(now))}", "set the clock")
    if abs(jump) > MOST_JUMP:
        return warning(
            f"it jumped by {jump:+.2f} s during the check",
            "check the time service: `timedatectl`, `chronyc tracking`",
        )
    return ok(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} UTC, runs evenly")


def judge_skew(seconds: float) -> Diagnosis:
    """``seconds`` is how far in the future the time of a new file is."""
    if abs(seconds) > MOST_SKEW:
        return warning(
            f"file times in the workspace differ from this machine's clock by {seconds:+.1f} s",
            "synchronise the clocks of this machine and of the file server (ntp, chrony)",
        )
    return ok("file times in the workspace agree with this machine's clock")
