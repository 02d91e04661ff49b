"""The queue in a browser."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.types import Message

from distill.daemon.opening import open_queue
from distill.daemon.placing import Placing
from distill.web.events import changes
from distill.web.routes.api_page import paragraphs
from distill.web.site import MOST_STREAMS, Site
from distill.web.words import code
from tests.distill.web.pages_harness import Pages, axe_faults

LONG = "import time; time.sleep(1000)"
MANY = 2_000


@pytest.fixture(scope="module")
def long_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Two thousand jobs, none of which starts."""
    made = Pages(tmp_path_factory.mktemp("long") / "workspace")
    with open_queue(made.workspace) as queue, queue.exclusive():
        for number in range(MANY):
            name = f"job-{number:05}"
            placing = Placing(label="odd" if number % 2 else "even", hold=True)
            queue.submit(name, f"name = '{name}'\ncode = 'pass'\n", time.time(), placing)
    made.start()
    yield made
    made.stop()


def test_the_queue_is_alive(pages: Pages, browser_page: Page) -> None:
    expect(browser_page.get_by_role("heading", name="Queue")).to_be_visible()
    pages.submit("seen-here", LONG)
    row = browser_page.get_by_role("row", name="seen-here")
    expect(row).to_contain_text("running")
    browser_page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Cancel seen-here").click()
    expect(row).to_contain_text("cancelled")
    row.get_by_role("button", name="Retry seen-here").click()
    expect(row).to_contain_text("running")
    row.get_by_role("button", name="Pause seen-here").click()
    expect(row).to_contain_text("held: distill resume seen-here")


def test_jobs_are_held_moved_and_drained(pages: Pages, browser_page: Page) -> None:
    browser_page.on("dialog", lambda dialog: dialog.accept())
    browser_page.get_by_role("button", name="Drain", exact=True).click()
    expect(browser_page.get_by_text("No job starts until the drain ends")).to_be_visible()
    for name in ("first-job", "second-job"):
        pages.submit(name, label="pair")
    row = browser_page.get_by_role("row", name="second-job")
    row.get_by_role("button", name="Start second-job first").click()
    row.get_by_role("link", name="pair").click()
    expect(browser_page).to_have_url(f"{pages.url}/?label=pair")
    row.get_by_role("button", name="Hold second-job").click()
    expect(row).to_contain_text("held")
    row.get_by_role("button", name="Resume second-job").click()
    expect(row).to_contain_text("queued")
    browser_page.get_by_role("button", name="Cancel all of them").click()
    expect(browser_page.locator("tbody tr")).to_have_count(2)
    expect(row).to_contain_text("cancelled")
    browser_page.get_by_role("button", name="End the drain").click()
    expect(browser_page.get_by_role("button", name="Drain", exact=True)).to_be_visible()


def test_a_dropped_spec_is_submitted(browser_page: Page, tmp_path: Path) -> None:
    drop(browser_page, "name = 'dropped'\nname = 'again'\n")
    browser_page.get_by_role("button", name="Submit", exact=True).click()
    fault = browser_page.locator(".source .wrong")
    expect(fault).to_contain_text("name = 'again'")
    expect(fault).to_contain_text("'name' is given twice, first in line 1")
    browser_page.get_by_role("textbox", name="Job spec").fill("name = 'dropped'\ncode = ''\n")
    browser_page.get_by_label("Label").fill("fresh")
    browser_page.get_by_label("hold it").check()
    browser_page.get_by_role("button", name="Submit", exact=True).click()
    expect(browser_page.locator("#submitted")).to_contain_text("dropped: queued")
    expect(browser_page.get_by_role("row", name="dropped")).to_contain_text("held")


def drop(page: Page, text: str) -> None:
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], "spec.toml"));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
        }""",
        text,
    )
    expect(page.get_by_role("textbox", name="Job spec")).to_have_value(text)


def test_a_refusal_is_shown_in_the_words_of_the_daemon(pages: Pages, browser_page: Page) -> None:
    pages.submit("gone-soon", hold="true")
    button = browser_page.get_by_role("button", name="Hold gone-soon")
    resume = browser_page.get_by_role("button", name="Resume gone-soon")
    expect(resume).to_be_visible()
    assert button.count() == 0
    browser_page.evaluate("for (const live of document.querySelectorAll('#live')) live.remove()")
    with pages.program() as http:
        http.post("/api/jobs/gone-soon/cancel")
    resume.click()
    said = browser_page.get_by_role("alert")
    expect(said).to_contain_text("job 'gone-soon' is cancelled, and resume is for queued or")


def test_a_new_job_keeps_what_the_user_did(pages: Pages, browser_page: Page) -> None:
    pages.submit("in-focus", hold="true")
    browser_page.locator("#submit summary").click()
    browser_page.get_by_label("Label").fill("typed")
    button = browser_page.get_by_role("button", name="Resume in-focus")
    button.focus()
    pages.submit("newer", hold="true")
    expect(browser_page.get_by_role("row", name="newer")).to_be_visible()
    expect(button).to_be_focused()
    expect(browser_page.locator("#submit")).to_have_attribute("open", "")
    expect(browser_page.get_by_label("Label")).to_have_value("typed")
    with pages.program() as http:
        http.post("/api/jobs/in-focus/cancel")
    retry = browser_page.get_by_role("button", name="Retry in-focus")
    expect(retry).to_be_visible()
    expect(retry).not_to_be_focused()  # Enter must not do what was not chosen


def test_untrusted_text_is_escaped(pages: Pages, browser_page: Page) -> None:
    told = json.dumps({"reason": "<img src=x onerror=alert(1)>\u202egnp.exe"})
    path = "pathlib.Path(sys.argv[1], 'failure.json')"
    pages.submit("hostile", f"import pathlib, sys; {path}.write_text({told!r}); sys.exit(1)")
    pages.wait_for("hostile", "failed")
    row = browser_page.get_by_role("row", name="hostile")
    expect(row).to_contain_text("<img src=x onerror=alert(1)>")
    assert "\u202e" not in browser_page.content()


def test_thousands_of_jobs_take_one_request(long_queue: Pages, chromium: Browser) -> None:
    page = chromium.new_context().new_page()
    page.goto(long_queue.link())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.get_by_text("page 1 of 40; 2,000 jobs")).to_be_visible()
    assert len({url for url in asked if "/static/" not in url}) <= 2  # the page and its events
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("row", name="job-01949")).to_be_visible()
    page.get_by_role("link", name="even").first.click()
    expect(page.get_by_text("page 1 of 20; 1,000 jobs")).to_be_visible()
    page.get_by_label("Name of a job").fill("job-00017")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{long_queue.url}/jobs/job-00017")
    page.context.close()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1440, "light")])
def test_the_queue_page_is_accessible(
    long_queue: Pages, chromium: Browser, width: int, theme: str
) -> None:
    view = {"width": width, "height": 900}
    context = chromium.new_context(viewport=view, color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    page.goto(long_queue.link())
    page.locator("summary").click()
    assert axe_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("path", ["/docs", "/nothing", "/sign-in"])
def test_other_pages_are_accessible(long_queue: Pages, chromium: Browser, path: str) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto(long_queue.link())
    page.goto(long_queue.url + path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert axe_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_a_job_is_resumed_by_keyboard_alone(long_queue: Pages, chromium: Browser) -> None:
    page = chromium.new_context().new_page()
    page.goto(long_queue.link("/?label=odd&page=20"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Resume job-00001")
    for _ in range(400):
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="job-00001")).not_to_contain_text("distill resume")
    page.context.close()


def test_descriptions_of_the_api_are_paragraphs() -> None:
    assert paragraphs("One `a`\nof two.\n\nMore: `b`\n") == [
        "One `a` of two.",
        "More: `b`",
    ]
    assert paragraphs("") == []


def test_commands_are_code_and_other_text_is_escaped() -> None:
    assert code("run `distill open <x>`, <b>") == (
        "run <code>distill open &lt;x&gt;</code>, &lt;b&gt;"
    )
    assert code("\u202eexe") == "\\u202eexe"


def test_a_stream_that_never_began_frees_its_slot() -> None:
    site = Site(service=None, slots=1)  # type: ignore[arg-type]

    async def gone(message: Message) -> None:
        raise OSError("the browser has gone")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with ThreadPoolExecutor(1) as elsewhere:  # Playwright has an event loop in this thread
        for _ in range(MOST_STREAMS + 1):
            answer = changes(site, lambda: 1)({"type": "http"}, receive, gone)
            with suppress(OSError, ExceptionGroup):
                elsewhere.submit(asyncio.run, answer).result()
