"""A process that runs untrusted files hangs neither its parent nor for ever after it."""

import atexit
import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import teachers.confined
from teachers.confined import ConfinedWorker, _command, _environment, confined


def serve() -> Any:
    """Like a library whose threads never end."""
    atexit.register(time.sleep, 600)
    return lambda: (None, b""), "ready"


def hang(how: str = "a lock") -> Any:
    """Like a library whose threads wait for each other."""
    if how == "a lock":
        threading.Event().wait()
    ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock


def serve_hangs() -> Any:
    return lambda how: hang(how) if how else (os.getpid(), b""), None


def work_in_pauses(seconds: float) -> Any:
    """Sleeps more than it works, but works."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        sum(range(300_000))
    return "done"


def leave() -> None:
    """Like a library that ends its process, as if all were well."""
    os._exit(0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers.confined, "_LOOK_SECONDS", 0.1)


def test_a_library_that_hangs_at_exit_ends_with_its_parent() -> None:
    command = _command("many", f"{__name__}:serve", 1 << 32, 60)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"] == "ready"
        process.stdin.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_work_that_ends_without_an_answer_has_crashed() -> None:
    with pytest.raises(ChildProcessError, match="it ended with 0"):
        confined(f"{__name__}:leave", {}, 1 << 32, 60)


@pytest.mark.parametrize("how", ["a lock", "C"])
@pytest.mark.usefixtures("impatient")
def test_work_that_hangs_is_a_timeout(how: str) -> None:
    with pytest.raises(TimeoutError):
        confined(f"{__name__}:hang", {"how": how}, 1 << 32, 60)


@pytest.mark.parametrize("how", ["a lock", "C"])
@pytest.mark.usefixtures("impatient")
def test_a_request_that_hangs_is_a_timeout(how: str) -> None:
    worker = ConfinedWorker(f"{__name__}:serve_hangs", {}, 1 << 32, 60)
    try:
        first, _ = worker.ask({"how": ""})
        with pytest.raises(TimeoutError):
            worker.ask({"how": how})
        assert worker.ask({"how": ""})[0] != first  # another process
    finally:
        worker.close()


@pytest.mark.usefixtures("impatient")
def test_slow_work_is_no_hang() -> None:
    assert confined(f"{__name__}:work_in_pauses", {"seconds": 4}, 1 << 32, 60) == "done"


@pytest.mark.usefixtures("impatient")
def test_work_that_waits_for_cpu_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers.confined, "_WAIT_FOR_CPU", 2)
    with pytest.raises(TimeoutError):
        confined(f"{__name__}:work_in_pauses", {"seconds": 600}, 1 << 32, 1)


def test_work_that_hangs_ends_with_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import subprocess
from teachers.confined import _command, _environment
command = _command("once", "{__name__}:hang", 1 << 32, 60)
process = subprocess.Popen(command, stdin=subprocess.PIPE, env=_environment())
process.stdin.write(b"{{}}")
process.stdin.close()
print(process.pid, flush=True)
process.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=_environment()
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(1)
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    deadline = time.monotonic() + 60
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # it may be left to a parent that never waits
