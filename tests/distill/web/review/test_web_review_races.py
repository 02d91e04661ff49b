"""The review while answers are late or the server is killed: no case is replaced, lost or decided
unseen.
"""

import re
import signal
from pathlib import Path

import pytest
from planted_findings import store_of_cases
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from reviewers import ReviewServer, logged, press, sign_in, sit_down, until_saved

from curation.noise.findings import Findings
from curation.review.review import Review
from curation.store import Store


@pytest.fixture
def images(drawn_folder: Path, tmp_path: Path) -> Path:
    return store_of_cases(drawn_folder, tmp_path).path


def shown(page: Page) -> str:
    return str(page.get_attribute("#case", "data-key"))


def test_two_people_lose_no_decision_if_the_server_is_killed(
    images: Path, chromium: Browser, serve
) -> None:
    server = serve(images)
    contexts = sign_in(chromium, server, people=2)
    ada, bob = (sit_down(c, server, who) for c, who in zip(contexts, ("ada", "bob"), strict=True))
    decided = []
    for number in range(12):
        decided += [press(ada, "yni"[number % 3]), press(bob, "n")]
    server.end(signal.SIGKILL)
    page_without_server = press(ada, "y")
    server.start()
    decided.append(page_without_server)
    for page in (ada, bob):
        while (case := press(page, "y")) is not None:
            decided.append(case)
        until_saved(page)
    for context in contexts:
        context.close()
    assert server.end() == 0
    events = logged(images)
    assert len(events) == len({event["case"] for event in events}) == 48
    assert {event["case"] for event in events} == set(decided)
    assert {event["who"] for event in events} == {"ada", "bob"}


def test_no_case_is_shown_twice_while_decisions_wait(
    images: Path, chromium: Browser, serve
) -> None:
    server = serve(images)
    (context,) = sign_in(chromium, server)
    page = sit_down(context, server, "ada")
    page.route("**/review/decide", lambda route: route.abort())
    decided = []
    for _ in range(30):
        decided.append(press(page, "n"))
    while page.get_attribute("#case", "data-key"):
        decided.append(press(page, "n"))
    assert len(decided) == len(set(decided)) < 48
    page.unroute("**/review/decide")
    while (case := press(page, "n")) is not None:
        decided.append(case)
    until_saved(page)
    context.close()
    assert server.end() == 0
    assert sorted(event["case"] for event in logged(images)) == sorted(decided)
    assert len(decided) == 48


@pytest.mark.parametrize("is_search_open", [False, True], ids=["marks", "search"])
def test_a_refused_case_does_not_replace_the_current_one(
    page: Page, images: Path, is_search_open: bool
) -> None:
    held: list[Route] = []
    page.route("**/review/decide", lambda route: held.append(route))
    case = shown(page)
    with page.expect_request("**/review/decide"):
        press(page, "y")
    other = Review(Store(images), Findings(images.with_name("train.findings")))
    image = int(case.removeprefix("misplaced-"))
    found = next(one for one in other.cases.findings if one.check == "misplaced")
    other.decide("b", "bob", case, found.identity, 0, "reject")
    current = shown(page)
    page.keyboard.press("d")
    if is_search_open:
        page.keyboard.press("e")
        page.wait_for_selector("dialog[open]")
    held[0].continue_()
    page.wait_for_selector("[role=alert]:has-text('meanwhile bob decided (reject)')")
    assert shown(page) == current
    own = int(current.removeprefix("misplaced-"))
    assert own != image
    assert page.inner_text(".plan") == f"leave out image {own}"


def test_a_double_click_decides_about_one_case(page: Page, images: Path) -> None:
    page.get_by_role("button", name="Reject").dblclick(delay=30)
    until_saved(page)
    expect(page.locator("#case")).not_to_have_attribute("data-key", "")
    assert len(logged(images)) == 1


def test_a_check_chosen_while_cases_load_gets_its_cases(page: Page) -> None:
    held: list[Route] = []
    page.route("**/review/next", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/review/next"):
        for _ in range(3):
            press(page, "n")
    page.select_option("select", "misplaced")
    held[0].continue_()
    page.wait_for_selector("#case[data-key^='misplaced-']")


def test_a_server_that_does_not_answer_is_named(page: Page) -> None:
    page.route("**/review/next", lambda route: route.abort())
    page.select_option("select", "misplaced")
    expect(page.locator("#case")).to_have_text("the server does not answer")
    page.unroute("**/review/next")
    page.wait_for_selector("#case[data-key^='misplaced-']")


def test_windows_keep_their_unsaved_decisions_apart(
    page: Page, context: BrowserContext, server: ReviewServer, images: Path
) -> None:
    other = sit_down(context, server, "ada")
    server.end(signal.SIGKILL)
    decided = {press(page, "n"), press(page, "y"), press(other, "n")}
    for window in (page, other):
        window.close(run_before_unload=False)
    server.start()
    until_saved(sit_down(context, server, "ada"))
    assert {event["case"] for event in logged(images)} == decided


def test_older_events_do_not_appear_in_another_panel(page: Page) -> None:
    page_errors: list[str] = []
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    for _ in range(48):
        press(page, "n")
    until_saved(page)
    for _ in range(4):
        page.keyboard.press("u")
    until_saved(page)
    held: list[Route] = []
    page.route(re.compile("history.*before="), lambda route: held.append(route))
    page.keyboard.press("h")
    with page.expect_request(re.compile("history.*before=")):
        page.get_by_role("button", name="Older").click()
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    page.wait_for_selector("dialog:has-text('There are no conflicts')")
    with page.expect_event("requestfinished"):
        held[0].continue_()
    page.wait_for_function("new Promise((resume) => setTimeout(() => resume(true), 200))")
    expect(page.locator("dialog")).to_contain_text("There are no conflicts")
    assert page_errors == []
