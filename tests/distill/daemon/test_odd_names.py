"""Paths and names of processes that are legal but unusual."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from curation.errors import UserError
from distill.daemon import client
from distill.daemon.problems import problem
from distill.daemon.processes import ProcessIdentity
from distill.daemon.queue import Queue
from distill.daemon.queue_file import resubmit
from distill.daemon.states import State
from distill.web.site import PageMaker
from tests.distill.daemon.harness import Harness

NOT_UTF8 = b"/caf\xe9"


@pytest.mark.parametrize("name", [NOT_UTF8, b"/two\nlines", b"/-rf [red] it's"], ids=ascii)
def test_jobs_run_in_a_workspace_of_any_path(tmp_path: Path, name: bytes) -> None:
    harness = Harness(Path(os.fsdecode(os.fsencode(tmp_path) + name)))
    harness.workspace.root.mkdir()
    harness.start()
    try:
        harness.submit("job")
        harness.wait_for("job", State.DONE)
        health = client.health(harness.workspace)
        assert health is not None
        assert str(health["workspace"]).isprintable()
        with pytest.raises(UserError, match="there is no job 'other'"):
            client.find_reports(harness.workspace, ["other"])
    finally:
        harness.clean_up()


def test_errors_may_quote_a_path_that_is_not_utf8() -> None:
    path = os.fsdecode(NOT_UTF8)
    assert problem(path, 404).body == rb'{"error": "/caf\udce9"}'
    page = PageMaker().page("error.html", 404, status=404, why=path)
    assert rb"/caf\udce9" in bytes(page.body)


def test_a_path_that_is_too_long_for_sqlite_is_named(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 200] * 3)
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="use a workspace with a shorter path"):
        Queue(folder / "queue.sqlite")


def test_advised_commands_quote_paths(tmp_path: Path) -> None:
    queue = tmp_path / "my space" / "daemon" / "queue.sqlite"
    assert f"'{tmp_path}/my space/runs'/JOB" in resubmit(queue)


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "a-name-with-14ü".encode()[:15], b") 1 (\xff"], ids=ascii
)
def test_a_process_of_any_name_is_identified(name: bytes) -> None:
    """A pid in a record may since belong to another program; Linux cuts names to 15 bytes."""
    script = (
        f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}); print('named', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        identity = ProcessIdentity.of(process.pid)
        process.kill()
    assert identity is not None
    assert identity.pid == process.pid
