"""Submitting on a full disk, in a browser and in the terminal."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from curation.errors import UserError
from distill.daemon import client
from tests.distill.daemon.daemon_under_test import accept
from tests.distill.daemon.harness import spec
from tests.distill.daemon.small_disk import SmallDisk, disk
from tests.distill.web.pages_harness import Pages

__all__ = ["disk"]

LARGE = "#" * 60_000
"""A few specs of this size fill what the queue has in reserve."""
FULL = "the disk is full or failing, with 0.0 MB free; free some space and run the same"


@pytest.fixture
def full(disk: SmallDisk) -> Iterator[Pages]:
    made = Pages(disk.place / "workspace")
    made.start()
    disk.fill()
    yield made
    made.stop()


def test_a_submit_is_refused_until_there_is_space(
    disk: SmallDisk, full: Pages, chromium: Browser
) -> None:
    queued = []
    with full.program() as http:
        for number in range(100):
            text = spec(f"job-{number}", LARGE)
            answer = http.post("/api/jobs", params={"hold": "true"}, content=text.encode())
            if answer.status_code != 200:
                break
            queued.append(f"job-{number}")
    assert answer.status_code == 507
    assert FULL in answer.json()["error"]
    assert sorted(client.names(full.workspace)) == sorted(queued)
    with pytest.raises(UserError, match="the disk is full or failing"):
        client.submit(full.workspace, "by-hand", spec("by-hand", LARGE), False, accept)
    page = chromium.new_context().new_page()
    page.set_default_timeout(30_000)
    page.goto(full.link())
    page.locator("#submit summary").click()
    page.get_by_role("textbox", name="Job spec").fill(spec("in-browser", LARGE))
    page.get_by_label("hold it").check()
    page.get_by_role("button", name="Submit", exact=True).click()
    said = page.locator("#submitted")
    expect(said).to_contain_text(FULL)
    assert not (full.workspace.runs / "in-browser").exists()
    disk.make_room()
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(said).to_contain_text("in-browser: queued")
    assert (full.workspace.runs / "in-browser" / "spec.toml").exists()
    page.context.close()
