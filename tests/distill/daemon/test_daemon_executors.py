"""Executors: a new file in their package is one; `distill serve --executor` chooses it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.errors import UserError
from distill.daemon import client, executors, stopping
from distill.daemon.daemon_lock import daemon_lock, last_executor
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.executors.registry import EXECUTORS, executor, find_executor
from distill.daemon.states import State
from tests.distill.daemon.harness import SCRIPT, Harness, wait_until

NOTED = """
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.executors.registry import executor

@executor("noted")
class Noted(LocalExecutor):
    def launch(self, attempt, environment):
        attempt.run.joinpath("noted").touch()
        return super().launch(attempt, environment)
"""
SERVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from curation.workspace import Workspace
from daemon_under_test import accept, code_of
from distill.daemon import executors, server
executors.__path__.append(sys.argv[2])
place = Workspace(Path(sys.argv[3]))
server.serve(place, executor="noted", command=code_of, check=accept, grace=1.0)
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are executors too."""
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(executors, "__path__", [*executors.__path__, str(room)])
    before = dict(EXECUTORS)
    yield room
    for name in EXECUTORS.keys() - before.keys():
        sys.modules.pop(EXECUTORS.pop(name).__module__, None)


def test_a_file_added_to_the_package_runs_the_jobs(harness: Harness, room: Path) -> None:
    (room / "dropped_noted.py").write_text(NOTED)
    arguments = [str(SCRIPT.parent), str(room), str(harness.workspace.root)]
    harness.daemon = subprocess.Popen([sys.executable, "-c", SERVE, *arguments])
    wait_until(lambda: client.health(harness.workspace), "the daemon answers")
    harness.submit("a", "import time; time.sleep(100)")
    harness.wait_for("a", State.RUNNING)
    wait_until((harness.run("a") / "noted").exists, "the executor launched it")
    wait_until(lambda: harness.job("a").launched)
    harness.kill()

    # Its jobs are its own: no other executor takes them over, and a cancel goes through it.
    refused = "a runs under the executor 'noted', .* `distill serve --executor noted`"
    with pytest.raises(UserError, match=refused), daemon_lock(harness.workspace, 1):
        pass
    assert last_executor(harness.workspace) == "noted"
    assert stopping.cancel(harness.workspace, ["a"])[0].state is State.CANCELLED
    with daemon_lock(harness.workspace, 1):
        assert last_executor(harness.workspace) == "local"


@pytest.mark.parametrize(
    ("name", "words"),
    [("locla", "did you mean 'local'"), ("slrum", "did you mean 'slurm'"), ("", "local, .*slurm")],
)
def test_an_unknown_executor_is_refused_with_the_known_ones(name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"no executor '{name}'.*{words}"):
        find_executor(name)


def test_a_name_taken_twice_is_an_error_with_both_places(room: Path) -> None:
    class Again(LocalExecutor):
        pass

    with pytest.raises(UserError, match=rf"'local' .*executors\.local and in {__name__}"):
        executor("local")(Again)


@pytest.mark.parametrize(
    ("executor", "last"),
    [(None, "local"), ("slurm", "slurm"), ("\x1b[2J", "local"), ("a b", "local"), (3, "local")],
)
def test_a_record_without_an_executor_means_local(
    harness: Harness, executor: object, last: str
) -> None:
    with daemon_lock(harness.workspace, 1):
        path = harness.workspace.daemon / "daemon.json"
        record = json.loads(path.read_text())
    named = {} if executor is None else {"executor": executor}
    path.write_text(json.dumps({"process": record["process"], "slots": 1, **named}))
    assert last_executor(harness.workspace) == last
