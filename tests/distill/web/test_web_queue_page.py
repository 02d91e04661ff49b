"""The queue in a browser."""

from conftest import Pages
from playwright.sync_api import Page, expect


def test_the_queue_is_alive(pages: Pages, browser_page: Page) -> None:
    expect(browser_page.get_by_role("heading", name="Queue")).to_be_visible()
    pages.submit("seen-here", "import time; time.sleep(1000)")
    row = browser_page.get_by_role("row", name="seen-here")
    expect(row).to_contain_text("running")
    with pages.program() as http:
        http.post("/api/jobs/seen-here/cancel", params={"force": "true"})
    expect(row).to_contain_text("cancelled")
