"""The cost of thousands of queued jobs for the daemon and the commands.

Run: just bench-queue [--jobs N] [--seconds N] [--json]. The daemon has one slot and a workspace of
drawn images. HTTP submissions use a spec that is not checked, since a check costs the same with an
empty queue; `distill submit` checks a real one. CPU time is that of the daemon for requests, and of
all processes for commands.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from drawn_store import drawn_store

from curation.workspace import Workspace
from distill.daemon import client, server
from distill.daemon.address import socket_path
from distill.daemon.names import Checked
from distill.daemon.opening import open_queue
from distill.daemon.states import State

SPEC = Path(__file__).parents[2] / "jobs" / "sample.toml"
TINY = """
name = "{name}"
data = {{ train = "drawn/train", evaluate = ["drawn/train"] }}
student = {{ backbone = "mobilefacenet", input_size = [32, 32], width = 0.125, embedding = 16 }}
train = {{ batch_size = 8 }}
stage = [{{ epochs = 1, losses = {{ arcface = {{}} }} }}]
"""
CLIENTS = 50
AT_ONCE = 100


@dataclass(frozen=True)
class Measured:
    """One line of the table; ``bar`` is its upper limit, or with ``least`` its lower limit."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    least: bool = False
    cpu: float | None = None
    """Seconds of work, of one request or command"""

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value >= self.bar if self.least else self.value <= self.bar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="that 50 clients ask")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        server.serve(Workspace(options.serve), slots=1, check=lambda text: Checked())
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder) / "workspace")
        drawn_store(place.datasets / "drawn", 64)
        (place.datasets / "drawn" / "drawn.lmdb").rename(place.datasets / "drawn" / "train.lmdb")
        told = []
        for line in measure(place, options.jobs, options.seconds):
            told.append({**asdict(line), "met": line.met})
            if not options.json:
                sys.stdout.write(f"{in_words(line)}\n")
                sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps({"jobs": options.jobs, "measured": told}, indent=2) + "\n")


def in_words(line: Measured) -> str:
    sign = {None: "", True: "", False: "  MISSED"}[line.met]
    bar = "" if line.bar is None else f"{'>=' if line.least else '<='} {line.bar:,g}"
    cpu = "" if line.cpu is None else f"CPU {line.cpu * 1e3:,.1f} ms"
    return f"{line.what:44}{line.value:10,.2f} {line.unit:4}{bar:>9}  {cpu:16}{sign}".rstrip()


def measure(place: Workspace, jobs: int, seconds: float) -> Iterator[Measured]:
    """Yield every measurement as soon as it is available."""
    with daemon(place):
        yield from finished_job(place)
    fill(place, jobs)
    with daemon(place) as (process, started), http(place) as ask:
        yield Measured("restart to serving", started, "s", 1.0)
        pid = process.pid
        yield request("GET /health", pid, lambda n: ask.get("/health"))
        yield request("GET /jobs: the first page", pid, lambda n: ask.get("/jobs"), 50.0)
        yield request("GET /jobs?page=100", pid, lambda n: ask.get("/jobs?page=100&limit=50"))
        yield request("GET /jobs/NAME", pid, lambda n: ask.get("/jobs/job-00100"))
        yield request(
            "POST /jobs", pid, lambda n: ask.post("/jobs", content=f"name = 'new-{n}'"), 10.0
        )
        yield request("POST /jobs/NAME/cancel", pid, lambda n: ask.post(f"/jobs/new-{n}/cancel"))
        yield from commands(place)
        yield from submits_at_once(place)
        yield from crowd(place, seconds)
        yield Measured("memory of the daemon (RSS)", memory(pid), "MB", 150.0)


@contextmanager
def daemon(place: Workspace) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A running daemon, and the time until its first answer."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--serve", str(place.root)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        while client.health(place) is None:
            time.sleep(0.01)
        yield process, time.monotonic() - began
    finally:
        process.terminate()
        process.wait()


@contextmanager
def http(place: Workspace) -> Iterator[httpx.Client]:
    with socket_path(place) as address:
        transport = httpx.HTTPTransport(uds=address)
        with httpx.Client(transport=transport, base_url="http://daemon", timeout=100) as ask:
            yield ask


def fill(place: Workspace, count: int) -> None:
    """Queue jobs of realistic size, held so that the daemon does not run them."""
    text = SPEC.read_text().partition("[data]")[2]
    with open_queue(place) as queue, queue.exclusive():
        for number in range(count):
            name = f"job-{number:05}"
            queue.submit(name, f"name = '{name}'\n[data]{text}", time.time())
        queue.drain(time.time())


def finished_job(place: Workspace) -> Iterator[Measured]:
    """The same job twice: the second time its run folder is missing but its steps are there."""
    for _ in range(2):
        shutil.rmtree(place.runs, ignore_errors=True)
        began = time.monotonic()
        client.submit(place, "tiny", TINY.format(name="tiny"), False, lambda text: Checked())
        while not (job := client.find_job(place, "tiny")).state.ended:
            time.sleep(0.02)
        took = time.monotonic() - began
        if job.state is not State.DONE:
            raise SystemExit(f"{job.name}: {job.reason}")
    yield Measured("a job whose steps are done, submit to done", took, "s", 3.0)


def commands(place: Workspace) -> Iterator[Measured]:
    for words, bar in {
        ("status",): 0.6,
        ("status", "--json"): 0.6,
        ("status", "job-00100"): 0.6,
        ("show", "job-00100"): None,
    }.items():
        yield command(place, words, bar)
    for number in range(2):  # the second finds everything in the disk cache
        path = place.root / f"more-{number}.toml"
        path.write_text(TINY.format(name=f"more-{number}"))
        told = command(place, ("submit", str(path)), 1.0)
    yield Measured("distill submit SPEC", told.value, "s", 1.0, cpu=told.cpu)


def submits_at_once(place: Workspace) -> Iterator[Measured]:
    """Separate processes, started together."""
    running = []
    for number in range(AT_ONCE):
        path = place.root / f"at-once-{number}.toml"
        path.write_text(TINY.format(name=path.stem))
        running.append(start_distill(place, "submit", str(path)))
    began, most = time.monotonic(), 0.0
    while running := [each for each in running if each.poll() is None]:
        most = max(most, sum(proportional_memory(each.pid) for each in running))
        time.sleep(1)
    took = time.monotonic() - began
    names = set(client.names(place))
    missing = sum(f"at-once-{number}" not in names for number in range(AT_ONCE))
    who = f"{AT_ONCE} distill submits at once"
    yield Measured(f"{who}: all queued", took, "s")
    yield Measured(f"{who}: memory", most, "MB", 20_000.0)
    yield Measured(f"{who}: lost", missing, "", 0.0)


def proportional_memory(pid: int) -> float:
    """Megabytes, counting shared pages once; 0 if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("Pss:")]
    return int(found[0]) / 1e3 if found else 0.0


def command(place: Workspace, words: tuple[str, ...], bar: float | None) -> Measured:
    """The best of three, because other load on the machine only slows one down."""
    took, used = [], []
    for _ in range(1 if words[0] == "submit" else 3):
        before, began = children(), time.monotonic()
        distill(place, *words)
        took.append(time.monotonic() - began)
        used.append(children() - before)
    return Measured(f"distill {' '.join(words)}", min(took), "s", bar, cpu=min(used))


def distill(place: Workspace, *words: str) -> None:
    process = start_distill(place, *words)
    if process.wait():
        raise SystemExit(f"distill {' '.join(words)} failed")


def start_distill(place: Workspace, *words: str) -> subprocess.Popen[bytes]:
    """With compiled modules, like an installed package."""
    compiled = {"PYTHONPYCACHEPREFIX": str(place.root / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "distill.cli.main", *words, "--workspace", str(place.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **compiled},
    )


def request(
    what: str,
    daemon: int,
    ask: Callable[[int], httpx.Response],
    bar: float | None = None,
    times: int = 100,
) -> Measured:
    """The median of some consecutive requests, and the daemon's CPU time for each."""
    before, took = cpu(daemon), []
    for number in range(times):
        began = time.monotonic()
        ask(number).raise_for_status()
        took.append(time.monotonic() - began)
    each = (cpu(daemon) - before) / times
    return Measured(f"{what} (p50)", statistics.median(took) * 1e3, "ms", bar, cpu=each)


def crowd(place: Workspace, seconds: float) -> Iterator[Measured]:
    """Clients that read and write continuously, each on its own connection."""
    took: list[float] = []
    errors: list[Any] = []
    deadline = time.monotonic() + seconds

    def one(client_number: int) -> None:
        with http(place) as ask:
            number = 0
            while time.monotonic() < deadline:
                name = f"crowd-{client_number}-{number // 6}"
                began = time.monotonic()
                try:
                    kind = number % 6
                    if kind == 0:
                        answer = ask.post("/jobs", content=f"name = '{name}'")
                    elif kind == 1:
                        answer = ask.get("/jobs")
                    elif kind == 5:
                        answer = ask.post(f"/jobs/{name}/cancel")
                    else:
                        answer = ask.get(f"/jobs/{name}")
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    errors.append(error)
                took.append(time.monotonic() - began)
                number += 1

    clients = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    took.sort()
    who = f"{CLIENTS} clients, {seconds:g} s"
    yield Measured(f"{who}: answers", len(took), "", 5000 * seconds / 30, least=True)
    yield Measured(f"{who}: p50", took[len(took) // 2] * 1e3, "ms")
    yield Measured(f"{who}: p99", took[len(took) * 99 // 100] * 1e3, "ms", 500.0)
    yield Measured(f"{who}: errors", len(errors), "", 0.0)
    if errors:
        sys.stderr.write(f"the first error: {errors[0]}\n")


def memory(pid: int) -> float:
    """Megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
