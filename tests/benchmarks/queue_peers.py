"""The queue compared with huey (SQLite with fsync) and task-spooler, on their common operations.

Run: just bench-queue-peers [--jobs N] [--json]. huey is in the extra ``bench``, task-spooler
(``tsp``) in Debian; a missing peer is skipped. Times are medians, in milliseconds, of calls that
return when the job is stored, with N jobs in the queue. In task-spooler every queued job is a
waiting process, so its queue is limited to ``MOST_PROCESSES``.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any, Protocol

from curation.workspace import Workspace
from distill.daemon import server
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.queue import Queue
from distill.daemon.states import Event, State

MEASURED = 200
MOST_PROCESSES = 500
BEHIND = 20
"""Jobs that wait behind the one that runs while the server is killed"""
LONG_SECONDS = 3.0
JOB = """
import sys, time
from pathlib import Path
name, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
(folder / "started").open("a").write(name + "\\n")
time.sleep(seconds)
(folder / "ended").open("a").write(name + "\\n")
"""
_SPEC = (Path(__file__).parents[2] / "jobs" / "sample.toml").read_text().partition("[data]")[2]

Row = dict[str, Any]


class Peer(Protocol):
    """One queue: ``folder`` is its own, and initially empty."""

    def fill(self, count: int) -> None:
        """Queue jobs that nobody starts."""

    def put(self, number: int) -> None:
        """Queue one more; stored when it returns."""

    def list_all(self) -> int:
        """The number of queued jobs, after reading each."""

    def take_and_finish(self) -> None:
        """Start the next one and record its end, without running anything."""


class Ours:
    """`Queue`, as used by the daemon and `distill submit`."""

    def __init__(self, folder: Path) -> None:
        self._queue: Queue = open_queue(Workspace(folder))

    def fill(self, count: int) -> None:
        with self._queue.exclusive():
            for number in range(count):
                self.put(number)

    def put(self, number: int) -> None:
        name = f"job-{number:06}"
        self._queue.submit(name, f"name = '{name}'\n[data]{_SPEC}", time.time())

    def list_all(self) -> int:
        return len(self._queue.jobs())

    def take_and_finish(self) -> None:
        job = self._queue.claim(time.time())
        assert job is not None
        done = Outcome(event=Event.SUCCEED, exit_status=0)
        self._queue.settle(job.name, job.attempt, lambda cancelled: done, time.time())


class Huey:
    """huey with SQLite, which syncs like ours; a task holds the same spec."""

    def __init__(self, folder: Path) -> None:
        from huey import SqliteHuey

        self._huey = SqliteHuey("peer", filename=str(folder / "huey.db"), fsync=True)
        self._task = self._huey.task()(lambda text: None)

    def fill(self, count: int) -> None:
        for number in range(count):
            self.put(number)

    def put(self, number: int) -> None:
        self._task(_SPEC)

    def list_all(self) -> int:
        return len(self._huey.pending())

    def take_and_finish(self) -> None:
        task = self._huey.dequeue()
        assert task is not None
        self._huey.execute(task)


class TaskSpooler:
    """task-spooler; a job is a command line, and a sleeping one keeps the others waiting."""

    def __init__(self, folder: Path) -> None:
        self._environment = spooler_environment(folder)
        self._call("sleep", "1000")

    def fill(self, count: int) -> None:
        for number in range(min(count, MOST_PROCESSES)):
            self.put(number)

    def put(self, number: int) -> None:
        self._call("true")

    def list_all(self) -> int:
        return self._call("-l").count("queued")

    def close(self) -> None:
        self._call("-K")

    def _call(self, *words: str) -> str:
        told = subprocess.run(
            ["tsp", *words], env=self._environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return told.stdout


def spooler_environment(folder: Path) -> dict[str, str]:
    """One server per folder, with room for its connections."""
    return {**os.environ, "TS_SOCKET": str(folder / "tsp"), "TMPDIR": str(folder)}


PEERS: dict[str, Callable[[Path], Any]] = {"ours": Ours, "huey": Huey, "task-spooler": TaskSpooler}


def times(build: Callable[[Path], Any], jobs: int) -> Row:
    """Medians in milliseconds with ``jobs`` queued; ``None`` for unsupported operations."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        peer = build(Path(folder))
        try:
            peer.fill(jobs)
            return {
                "queued": peer.list_all(),
                "put": median(lambda number: peer.put(jobs + number), MEASURED),
                "list": median(lambda number: peer.list_all(), 5),
                "take": median(lambda number: peer.take_and_finish(), MEASURED)
                if hasattr(peer, "take_and_finish")
                else None,
            }
        finally:
            if hasattr(peer, "close"):
                peer.close()


def median(call: Callable[[int], object], count: int) -> float:
    took = []
    for number in range(count):
        began = time.perf_counter()
        call(number)
        took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1e3, 3)


def our_crash(folder: Path) -> bool:
    """Kill the daemon while a job runs, and restart it; whether that job's end is known."""
    workspace = Workspace(folder)
    with open_queue(workspace) as queue:
        for name in names():
            queue.submit(name, f"name = '{name}'", time.time())
    kill_and_restart([sys.executable, __file__, "--our-server", str(folder)], folder)
    with open_queue(workspace) as queue:
        job = queue.job("long")
    return job is not None and job.state is State.DONE


def our_server(folder: Path) -> None:
    def command(run: Path) -> list[str]:
        return [sys.executable, "-c", JOB, run.name, str(folder), seconds(run.name)]

    server.serve(Workspace(folder), slots=1, command=command, check=lambda text: [])


def huey_crash(folder: Path) -> bool:
    task = huey_for_crash(folder)[1]
    results = [task(name) for name in names()]
    kill_and_restart([sys.executable, __file__, "--huey-server", str(folder)], folder)
    return results[0].get() is not None


def huey_for_crash(folder: Path) -> tuple[Any, Any]:
    from huey import SqliteHuey

    huey = SqliteHuey("crash", filename=str(folder / "huey.db"), fsync=True)

    @huey.task()
    def run(name: str) -> str:
        subprocess.run([sys.executable, "-c", JOB, name, str(folder), seconds(name)], check=True)
        return "done"

    return huey, run


def huey_server(folder: Path) -> None:
    huey_for_crash(folder)[0].create_consumer(workers=1).run()


def spooler_crash(folder: Path) -> bool:
    environment = spooler_environment(folder)
    for name in names():
        job = [sys.executable, "-c", JOB, name, str(folder), seconds(name)]
        subprocess.run(["tsp", *job], env=environment, check=True, stdout=subprocess.DEVNULL)
    wait_for_start(folder)
    os.kill(owner_of(folder / "tsp"), signal.SIGKILL)
    (folder / "tsp").unlink(missing_ok=True)
    wait_for_quiet(folder)
    listed = subprocess.run(
        ["tsp", "-l"], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    subprocess.run(["tsp", "-K"], env=environment, check=True)
    return "finished" in listed.stdout


def owner_of(path: Path) -> int:
    """The process that listens on a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", told)[0])


def names() -> list[str]:
    return ["long", *(f"short-{number}" for number in range(BEHIND))]


def seconds(name: str) -> str:
    return str(LONG_SECONDS) if name == "long" else "0"


def kill_and_restart(command: list[str], folder: Path) -> None:
    first = start(command)
    wait_for_start(folder)
    first.kill()
    first.wait()
    second = start(command)
    wait_for_quiet(folder)
    second.terminate()
    second.wait()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_start(folder: Path) -> None:
    while not (folder / "started").exists():
        time.sleep(0.02)
    time.sleep(0.5)


def wait_for_quiet(folder: Path) -> None:
    """Wait until nothing was recorded for three times the longest job."""
    while time.time() - max(entry.stat().st_mtime for entry in folder.glob("*ed")) < (
        3 * LONG_SECONDS
    ):
        time.sleep(0.1)


CRASHES = {"ours": our_crash, "huey": huey_crash, "task-spooler": spooler_crash}


def crash(build: Callable[[Path], bool]) -> Row:
    """The fate of the jobs of a server that was killed with kill -9 and restarted."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        folder = Path(place)
        known = build(folder)
        started, ended = (lines(folder / name) for name in ("started", "ended"))
        return {
            "waiting_jobs_done": sum(f"short-{number}" in ended for number in range(BEHIND)),
            "running_job_started": started.count("long"),
            "running_job_ended": ended.count("long"),
            "its_end_is_known": known,
        }


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def there() -> list[str]:
    """The queues that can be measured on this machine."""
    from importlib.util import find_spec

    missing = {"huey": find_spec("huey") is None, "task-spooler": which("tsp") is None}
    return [name for name in PEERS if not missing.get(name, False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--our-server", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--huey-server", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.our_server is not None:
        our_server(options.our_server)
    elif options.huey_server is not None:
        huey_server(options.huey_server)
    else:
        rows = {name: times(PEERS[name], options.jobs) | crash(CRASHES[name]) for name in there()}
        sys.stdout.write(json.dumps(rows, indent=1) + "\n" if options.json else table(rows))


def table(rows: dict[str, Row]) -> str:
    columns = list(next(iter(rows.values())))
    head = f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}\n"
    told = (
        f"| {name} | {' | '.join('-' if row[c] is None else str(row[c]) for c in columns)} |\n"
        for name, row in rows.items()
    )
    return head + "".join(told)


if __name__ == "__main__":
    main()
