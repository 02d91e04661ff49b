"""Pages whose answers are late or refused: nothing stays stale, and nothing is asked twice."""

import json

from playwright.sync_api import Page, Request, Route, expect

from distill.run_directory import METRICS
from tests.distill.web.pages_harness import Pages


def test_a_double_click_holds_a_job(pages: Pages, browser_page: Page) -> None:
    with pages.program() as http:
        http.post("/api/drain")
        pages.submit("clicked")
        box = browser_page.get_by_role("button", name="Hold clicked").bounding_box()
        assert box is not None
        browser_page.mouse.move(box["x"] + 5, box["y"] + 5)
        for count in (1, 2):
            browser_page.mouse.down(click_count=count)
            browser_page.mouse.up(click_count=count)
            button = browser_page.get_by_role("button", name="Resume clicked")
            expect(button).to_be_visible()  # in the place of the first
        browser_page.wait_for_timeout(500)
        assert http.get("/api/jobs/clicked").json()["held"] is True
        http.post("/api/undrain")


def test_a_page_refused_by_the_daemon_listens_again(pages: Pages, browser_page: Page) -> None:
    listened: list[Route] = []

    def refuse_once(route: Route) -> None:
        listened.append(route)
        if len(listened) == 1:
            pages.submit("unheard", hold="true")
            route.fulfill(status=503, body="too many pages")
        else:
            route.continue_()

    browser_page.route("**/events/queue", refuse_once)
    browser_page.reload()
    expect(browser_page.get_by_role("row", name="unheard")).to_be_visible()
    assert len(listened) == 2


def test_a_page_says_that_it_is_not_updated(pages: Pages, browser_page: Page) -> None:
    said = browser_page.locator("#said")
    browser_page.route("**/events/queue", lambda route: route.abort())
    browser_page.reload()
    expect(said).to_contain_text("the daemon does not answer; this page is as of ")
    pages.submit("meanwhile", hold="true")
    browser_page.unroute("**/events/queue")
    expect(browser_page.get_by_role("row", name="meanwhile")).to_be_visible()
    expect(said).to_have_text("")


def test_a_page_says_that_its_updates_are_refused(browser_page: Page) -> None:
    browser_page.route("**/events/queue", lambda route: route.fulfill(status=401, body="no"))
    browser_page.reload()
    said = browser_page.locator("#said")
    expect(said).to_contain_text("the daemon refuses to update this page, reload it; this page is")


def test_a_spec_submitted_twice_is_sent_once(pages: Pages, browser_page: Page) -> None:
    sent: list[Request] = []
    browser_page.on("request", lambda one: sent.append(one) if one.method == "POST" else None)
    browser_page.get_by_text("Submit a job").click()
    browser_page.get_by_label("Job spec").fill("name = 'typed'\ncode = 'pass'\n")
    browser_page.get_by_role("button", name="Submit").dblclick()
    expect(browser_page.locator("#submitted a")).to_have_text("typed")
    assert len(sent) == 1


def test_a_chart_shows_what_came_while_it_loaded(pages: Pages, browser_page: Page) -> None:
    pages.submit("drawn", hold="true")
    run = pages.workspace.runs / "drawn"
    run.mkdir(exist_ok=True)

    def measure(*iterations: int) -> None:
        rows = [{"step": "teach", "iteration": at, "loss_total": 1.0} for at in iterations]
        with (run / METRICS).open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    measure(1, 2)
    asked: list[Route] = []

    def hold_first(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            answer = route.fetch()
            measure(3)
            browser_page.evaluate("document.dispatchEvent(new CustomEvent('htmx:afterSwap'))")
            browser_page.unroute("**/events/**")
            route.fulfill(response=answer)
        else:
            route.continue_()

    browser_page.route("**/events/**", lambda route: None)
    browser_page.route("**/curves?*", hold_first)
    browser_page.goto(f"{pages.url}/jobs/drawn")
    browser_page.wait_for_function("() => document.querySelector('.plot .u-legend')")
    browser_page.wait_for_timeout(1000)
    assert len(asked) == 2
