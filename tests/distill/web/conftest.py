"""A daemon with pages for the tests of a module, and a signed-in browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from distill.daemon import client
from tests.distill.daemon.harness import wait_until
from tests.distill.web.pages_harness import Pages


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    made = Pages(tmp_path_factory.mktemp("pages") / "workspace")
    made.start()
    yield made
    for job in client.names(made.workspace):
        with made.program() as http:
            http.post(f"/api/jobs/{job}/cancel", params={"force": "true"})
    wait_until(lambda: all(job.state.ended for job in client.jobs(made.workspace)))
    made.stop()


@pytest.fixture
def browser_page(pages: Pages, chromium: Browser) -> Iterator[Page]:
    """A signed-in window; an error in its console fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A refusal by the daemon is also shown on the page.
        refused = message.text.startswith(("Failed to load resource", "Response Status Error"))
        if message.type == "error" and not refused:
            complaints.append(message.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", note)
    page.set_default_timeout(30_000)
    page.goto(pages.link())
    yield page
    context.close()
    assert complaints == []
