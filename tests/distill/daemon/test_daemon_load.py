"""Thousands of jobs: operations on one job have constant cost, those on all scale with them."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_daemon_commands import Ran

from curation.workspace import Workspace
from distill.cli.job_view import print_status
from distill.daemon import client
from distill.daemon.address import socket_path
from distill.daemon.listing import MOST, Wanted
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.placing import Placing
from distill.daemon.queue import Queue
from distill.daemon.reports import report, report_page
from distill.daemon.schema import MIGRATIONS
from distill.daemon.states import Event, State
from distill.daemon.waiting import MOST_NAMED, surroundings
from tests.distill.daemon.harness import Harness, spec


def fill(queue: Queue, count: int, first: int = 0) -> None:
    with queue.exclusive():
        for number in range(first, first + count):
            queue.submit(f"job-{number:05}", spec(f"job-{number:05}", "#" * 2000), 0.0)


def steps_of(queue: Queue, action: Callable[[], object]) -> int:
    """The cost of ``action`` in instructions of SQLite's virtual machine."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    queue._connection.set_progress_handler(step, 1)
    try:
        action()
    finally:
        queue._connection.set_progress_handler(None, 1)
    return count


def test_a_query_about_one_job_is_as_fast_in_a_long_queue(tmp_path: Path) -> None:
    asked: dict[str, Callable[[Queue], object]] = {
        "one job": lambda queue: queue.job("job-00005"),
        "submit": lambda queue: queue.submit("zzz", "spec", 0.0),
        "claim": lambda queue: queue.claim(1.0),
        "who runs": lambda queue: (queue.jobs(State.RUNNING), queue.names(State.RUNNING)),
        "who waits for a step": lambda queue: queue.blocked(),
        "pause": lambda queue: queue.pause("job-00006", 1.0),
        "cancel": lambda queue: queue.request_cancel("job-00007", 2.0),
        "settle": lambda queue: queue.settle(
            "job-00000", 1, lambda cancelled: Outcome(event=Event.SUCCEED), 3.0
        ),
        "history": lambda queue: queue.history("job-00000"),
    }
    costs = []
    for count in (10, 3000):
        with Queue(tmp_path / f"{count}.sqlite") as queue:
            fill(queue, count)
            costs.append(
                {what: steps_of(queue, lambda a=ask: a(queue)) for what, ask in asked.items()}
            )
    short, long = costs
    assert all(short.values())
    assert {what: steps for what, steps in long.items() if steps > 1.2 * short[what]} == {}


@pytest.mark.parametrize("kept", ["held", "unmet"])
def test_jobs_that_may_not_start_cost_a_claim_nothing(tmp_path: Path, kept: str) -> None:
    costs = []
    for count in (10, 3000):
        with Queue(tmp_path / f"{count}.sqlite") as queue:
            fill(queue, count)
            queue._connection.execute(f"UPDATE jobs SET {kept} = 1, priority = 9")
            queue.submit("last", "spec", 1.0)
            costs.append(steps_of(queue, lambda q=queue: q.claim(2.0)))
            assert [job.name for job in queue.jobs(State.RUNNING)] == ["last"]
    assert costs[1] < 1.2 * costs[0]


def test_all_jobs_are_counted_and_named_by_state(tmp_path: Path) -> None:
    with Queue(tmp_path / "queue.sqlite") as queue:
        assert queue.counts() == dict.fromkeys(State, 0)
        fill(queue, 5)
        queue.claim(1.0)
        queue.request_cancel("job-00003", 1.0)
        assert queue.counts() == {
            State.QUEUED: 3,
            State.RUNNING: 1,
            State.DONE: 0,
            State.FAILED: 0,
            State.CANCELLED: 1,
        }
        assert queue.names() == [f"job-{number:05}" for number in range(5)]
        assert queue.names(State.QUEUED) == ["job-00001", "job-00002", "job-00004"]


def test_waiting_jobs_name_a_few_of_those_that_run(tmp_path: Path) -> None:
    with Queue(tmp_path / "queue.sqlite") as queue:
        fill(queue, 60)
        for _ in range(40):
            queue.claim(1.0)
        jobs = queue.jobs()
        around = surroundings(queue, 40, tmp_path, jobs)
        shown = [report(job, around) for job in jobs]
    told = {job.waiting_for for job in shown if job.state is State.QUEUED}
    names = ", ".join(f"job-{number:05}" for number in range(MOST_NAMED))
    assert told == {f"a slot: 40 of 40 taken by {names} and 35 more"}


def seconds(action: Callable[[], object]) -> float:
    """CPU time of this process."""
    before = time.process_time()
    action()
    return time.process_time() - before


def test_ten_thousand_jobs_are_shown_in_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    with open_queue(workspace) as queue:
        fill(queue, 10_000)
        queue.claim(1.0)

        def status() -> None:
            wanted = Wanted(limit=MOST)
            page = report_page(queue, wanted, lambda jobs: surroundings(queue, 1, tmp_path, jobs))
            print_status(page.jobs, workspace)

        assert seconds(status) < 3.0  # 0.1 s here
    out = capsys.readouterr().out
    assert out.count("waits for a slot: 1 of 1 taken by job-00000\n") == MOST


def names_of(queue: Queue, **wanted: Any) -> list[str]:
    return [job.name for job in queue.page(Wanted(**wanted))[0]]


def test_a_page_has_the_newest_jobs_and_those_at_work_or_failed(tmp_path: Path) -> None:
    with Queue(tmp_path / "queue.sqlite") as queue:
        for number in range(9):
            queue.submit(f"j{number}", "spec", float(number))
        for name in ("j0", "j1"):
            job = queue.claim(10.0)
            assert job is not None
            assert job.name == name
        failed = Outcome(event=Event.FAIL, reason="no")
        queue.settle("j1", 1, lambda cancelled: failed, 11.0)
        assert names_of(queue) == [f"j{number}" for number in range(8, -1, -1)]
        assert names_of(queue, limit=3) == ["j0", "j1", "j8", "j7", "j6"]
        assert names_of(queue, limit=3, page=3) == ["j2", "j1", "j0"]
        assert names_of(queue, limit=3, page=4) == ["j0", "j1"]
        assert names_of(queue, limit=2, state=State.QUEUED, page=2) == ["j6", "j5"]
        listed = queue.page(Wanted(limit=2, state=State.QUEUED))[1]
        assert (listed.total, listed.pages) == (7, 4)
        assert listed.counts == {
            State.QUEUED: 7,
            State.RUNNING: 1,
            State.DONE: 0,
            State.FAILED: 1,
            State.CANCELLED: 0,
        }


def test_a_page_of_a_label_shows_only_its_jobs(tmp_path: Path) -> None:
    with Queue(tmp_path / "queue.sqlite") as queue:
        for number in range(6):
            label = "x" if number % 2 else None
            queue.submit(f"j{number}", "spec", 0.0, Placing(label=label))
        queue.claim(1.0)
        assert names_of(queue, label="x", limit=2) == ["j5", "j3"]
        page = queue.page(Wanted(label="x", limit=2))[1]
        assert (page.total, page.pages, page.counts[State.RUNNING]) == (3, 2, 0)
        assert names_of(queue, label="none") == []


def test_pages_are_shown_and_counted(harness: Harness) -> None:
    with open_queue(harness.workspace) as queue:
        fill(queue, 7)

    def status(*options: str) -> Ran:
        return Ran(harness.workspace, "status", *options)

    shown = status("--limit", "3", "--page", "2").stdout
    assert shown.endswith("page 2 of 3, the newest jobs first; 7 queued; --page 3 shows the next\n")
    assert "job-00003" in shown
    assert "job-00006" not in shown
    assert "page" not in status().stdout
    told = json.loads(status("--limit", "3", "--json").stdout)
    assert [job["name"] for job in told] == ["job-00006", "job-00005", "job-00004"]
    assert "there is no page 4; the last one is 3" in status("--limit", "3", "--page", "4").error
    assert status("--limit", "0").status == 2


def test_a_long_queue_is_listed_over_http(harness: Harness) -> None:
    with open_queue(harness.workspace) as queue:
        fill(queue, 3_000)
    harness.start(slots=0)
    health = client.health(harness.workspace)
    assert health is not None
    assert health["jobs"] == {**dict.fromkeys(map(str, State), 0), "queued": 3_000}
    harness.submit("one-more")
    assert client.find_report(harness.workspace, "one-more").waiting_for == "a slot: 0 of 0 taken"
    page = client.page(harness.workspace, Wanted(limit=7))
    assert (page.jobs[0].name, len(page.jobs), page.total) == ("one-more", 7, 3_001)
    with socket_path(harness.workspace) as address:
        transport = httpx.HTTPTransport(uds=address)
        with httpx.Client(transport=transport, base_url="http://daemon") as http:
            answer = http.get("/jobs", params={"page": 2, "limit": 1000})
            assert http.get("/jobs", params={"page": 0}).status_code == 422
            assert http.get("/jobs", params={"limit": 1001}).status_code == 422
    assert (len(answer.json()), answer.headers["X-Total-Count"]) == (1000, "3001")
    assert answer.headers["X-Page-Count"] == "4"


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_queue_of_an_older_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "queue.sqlite"
    old = sqlite3.connect(path)
    for statement in [line for migration in MIGRATIONS[:version] for line in migration]:
        old.execute(statement)
    old.execute(f"PRAGMA user_version = {version}")
    old.execute(
        "INSERT INTO jobs (name, spec, state, position, submitted_at)"
        " VALUES ('a', 'spec', 'queued', 1, 0.0)"
    )
    old.commit()
    old.close()
    with Queue(path) as queue:
        job = queue.claim(1.0)
        assert job == queue.job("a")
        assert job is not None
        assert (job.priority, job.held, job.label) == (0, False, "")
        (now,) = queue._connection.execute("PRAGMA user_version").fetchone()
    assert now == len(MIGRATIONS)
