"""Pages and reports of a queue that another process changed."""

import sqlite3
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from curation.errors import UserError
from curation.workspace import QUEUE_FILE, Workspace
from distill.daemon.names import Checked
from distill.daemon.opening import open_queue
from distill.daemon.service import JobService
from distill.spec_source import decode_spec
from distill.web.app import create_pages
from distill.web.keys import Keys
from distill.web.site import Site

TOKEN = "t" * 43
EVENT = "INSERT INTO transitions (job, at, attempt, event, state) VALUES "
MANY = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
    "INSERT INTO transitions (job, at, attempt, event, state) SELECT 'one', i, 1, 'start', "
    "'running' FROM n"
)


def answer(root: Path, change: str, page: str) -> tuple[int, str]:
    """The status and text of a page after a change of the queue's tables."""
    place = Workspace(root)
    with open_queue(place) as queue:
        queue.submit("one", "name = 'one'", 0.0)
    with sqlite3.connect(place.daemon / QUEUE_FILE) as tables:
        tables.execute(change)
    tables.close()
    with open_queue(place) as queue:
        site = Site(service=JobService(place, queue, lambda spec: Checked()), slots=1)
        pages = create_pages(site, Keys(TOKEN, "start"), frozenset({"http://localhost"}), False)
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
        client = TestClient(
            pages, "http://localhost", headers=headers, raise_server_exceptions=False
        )
        found = client.get(page)
    return found.status_code, found.text


@pytest.mark.parametrize("page", ["/", "/jobs/one", "/api/jobs", "/api/jobs/one"])
def test_text_that_is_not_utf_8_is_one_clear_line(tmp_path: Path, page: str) -> None:
    change = "UPDATE jobs SET reason = CAST(x'fffe' AS TEXT)"
    status, text = answer(tmp_path, change, page)
    assert status == 503
    assert "the queue is unavailable" in text


@pytest.mark.parametrize("page", ["/", "/jobs/one", "/api/jobs"])
def test_a_queue_without_its_tables_is_named_as_damaged(tmp_path: Path, page: str) -> None:
    status, text = answer(tmp_path, "ALTER TABLE jobs RENAME TO others", page)
    assert status == 503
    assert "is damaged (no such table: jobs); restore a copy of it" in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("('one', 1, 1, 'burn', 'running')", "&#39;burn&#39; is no event"),
        ("('one', 1, 1, 'start', 'burnt')", "&#39;burnt&#39; is no state"),
    ],
    ids=["event", "state"],
)
def test_an_unknown_event_or_state_is_named(tmp_path: Path, values: str, said: str) -> None:
    status, text = answer(tmp_path, EVENT + values, "/jobs/one")
    assert status == 503
    assert said in text


def test_of_a_long_history_the_newest_events_are_shown(tmp_path: Path) -> None:
    status, text = answer(tmp_path, MANY, "/jobs/one")
    assert status == 200
    assert text.count('<span class="unit">attempt </span>') == 500


HUGE = "replace(hex(zeroblob(3000000)), '00', 'é')"


@pytest.mark.parametrize("page", ["/", "/jobs/one", "/api/jobs", "/api/jobs/one"])
@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE jobs SET reason = {HUGE}",
        f"UPDATE jobs SET reason = char(0) || {HUGE}",
        f"UPDATE jobs SET hint = {HUGE}",
        f"UPDATE jobs SET label = {HUGE}",
        f"UPDATE jobs SET spec = {HUGE}",
        f"UPDATE transitions SET reason = {HUGE}",
    ],
    ids=["reason", "with NUL", "hint", "label", "spec", "transition"],
)
def test_a_huge_text_is_shortened(tmp_path: Path, change: str, page: str) -> None:
    status, text = answer(tmp_path, change, page)
    assert status == 200
    assert len(text) < 200_000


def test_a_shortened_text_says_how_much_is_missing(tmp_path: Path) -> None:
    found = answer(tmp_path, f"UPDATE jobs SET reason = {HUGE}", "/api/jobs/one")[1]
    assert "éé ... (2,998,000 more characters)" in found


def test_a_huge_spec_is_not_run_in_part(tmp_path: Path) -> None:
    spec = f"'name = \"one\"' || char(10) || '#' || {HUGE}"
    answer(tmp_path, f"UPDATE jobs SET spec = {spec}", "/")
    with open_queue(Workspace(tmp_path)) as queue:
        (job,) = queue.jobs()
    with pytest.raises(UserError, match="larger than 64 KiB"):
        decode_spec(job.spec.encode())
