"""What the daemon and the commands take with thousands of queued jobs.

Run: just bench-queue [--jobs N]. The daemon has no slots and accepts every spec, so a submit is
measured without its check. CPU time is that of the daemon for requests, of all processes for
commands.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from curation.workspace import Workspace
from distill.daemon import client, server
from distill.daemon.address import socket_path
from distill.daemon.service import open_queue

SPEC = Path(__file__).parents[2] / "jobs" / "sample.toml"
COMMANDS = (["status"], ["status", "--json"], ["status", "job-00500"], ["show", "job-00500"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        server.serve(Workspace(options.serve), slots=0, check=lambda text: [])
        return
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        fill(workspace, options.jobs)
        command = [sys.executable, __file__, "--serve", str(workspace.root)]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            while client.health(workspace) is None:
                time.sleep(0.05)
            measure(workspace, daemon.pid)
        finally:
            daemon.terminate()
            daemon.wait()


def fill(workspace: Workspace, count: int) -> None:
    """Queue jobs as large as real ones."""
    text = SPEC.read_text().partition("[data]")[2]
    with open_queue(workspace) as queue, queue.exclusive():
        for number in range(count):
            name = f"job-{number:05}"
            queue.submit(name, f"name = '{name}'\n[data]{text}", time.time())


def measure(workspace: Workspace, daemon: int) -> None:
    with socket_path(workspace) as address:
        transport = httpx.HTTPTransport(uds=address)
        with httpx.Client(transport=transport, base_url="http://daemon", timeout=100) as http:
            show("GET /health", daemon, lambda n: http.get("/health"))
            show("GET /jobs", daemon, lambda n: http.get("/jobs"), times=3)
            show("GET /jobs/NAME", daemon, lambda n: http.get("/jobs/job-00500"))
            show("POST /jobs", daemon, lambda n: http.post("/jobs", content=f"name = 'new-{n}'"))
            show("POST /jobs/NAME/cancel", daemon, lambda n: http.post(f"/jobs/new-{n}/cancel"))
    for words in COMMANDS:
        before, began = children(), time.monotonic()
        command = [sys.executable, "-m", "distill.cli.main", *words]
        subprocess.run(
            [*command, "--workspace", str(workspace.root)], stdout=subprocess.DEVNULL, check=True
        )
        told = f"{time.monotonic() - began:6.2f} s, CPU {children() - before:6.2f} s"
        sys.stdout.write(f"distill {' '.join(words):24}{told}\n")


def show(what: str, daemon: int, ask: Callable[[int], httpx.Response], times: int = 40) -> None:
    """The median of some requests, one after the other, and what the daemon took for each."""
    before, took = cpu(daemon), []
    for number in range(times):
        began = time.monotonic()
        ask(number).raise_for_status()
        took.append(time.monotonic() - began)
    each, median = (cpu(daemon) - before) / times * 1e3, statistics.median(took) * 1e3
    sys.stdout.write(f"{what:30}{median:8.1f} ms, CPU {each:8.1f} ms\n")


def cpu(pid: int) -> float:
    """Seconds of work of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children() -> float:
    """Seconds of work of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
