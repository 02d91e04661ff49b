"""The review in a browser, mostly with keys alone."""

import json
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from planted_findings import (
    all_findings,
    finding,
    write_findings,
)
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from reviewers import ReviewServer, logged, press, sign_in, sit_down, until_saved

from curation.conversion.convert import convert
from curation.noise.findings import Findings
from curation.pairs import read_pairs, write_pairs
from curation.records.layout_writer import write_layout
from curation.review.review import Review
from curation.store import Store
from distill.web.keys import TOKEN_FILE
from tests.distill.web.pages_harness import axe_faults


def shown_image(event: dict) -> int:
    """The image of a case of the check "misplaced"."""
    return int(event["case"].removeprefix("misplaced-"))


def filtered(page: Page, check: str) -> None:
    """Show only the cases of one check."""
    page.select_option("select", check)
    page.wait_for_selector(f"#case[data-key^='{check}-']")


def test_faces_are_chosen_and_dropped_by_keys_alone(page: Page, images: Path) -> None:
    filtered(page, "misplaced")
    case = page.get_attribute("#case", "data-key")
    image = int(str(case).removeprefix("misplaced-"))
    for key in ("ArrowRight", " ", "Shift+ArrowRight", "d", "Enter"):
        page.keyboard.press(key)
    until_saved(page)
    (event,) = logged(images)
    own = [i for i in range(image // 8 * 8, image // 8 * 8 + 8) if i != image]
    assert event["lines"] == [f"drop {i} {image // 8}" for i in own[:2]]
    assert (event["case"], event["choice"], event["confirmed"]) == (case, "change", False)


def test_a_key_held_down_decides_about_one_case(page: Page, images: Path) -> None:
    press(page, "n")
    for _ in range(3):
        page.keyboard.down("y")
    until_saved(page)
    assert [event["choice"] for event in logged(images)] == ["reject", "accept"]


def test_cases_put_off_come_after_all_others(page: Page, images: Path) -> None:
    seen = [press(page, "j") for _ in range(14)]
    assert len(set(seen)) == 14  # all open cases, more than the page holds
    assert [press(page, "j") for _ in range(3)] == seen[:3]
    decided = press(page, "n")
    until_saved(page)
    assert decided == seen[3]
    assert [event["case"] for event in logged(images)] == [decided]


def test_the_only_open_case_can_be_put_off(page: Page) -> None:
    filtered(page, "overlap")
    for _ in range(3):
        page.keyboard.press("j")
    page.wait_for_selector("#case[data-key^='overlap-']")
    page.keyboard.press("n")
    page.wait_for_selector("#case:has-text('Nothing is open of overlap')")


def test_a_decision_is_undone_and_redone(page: Page, images: Path) -> None:
    case = press(page, "n")
    page.keyboard.press("u")
    page.wait_for_selector(f"#case[data-key='{case}']")
    page.keyboard.press("U")
    page.wait_for_selector(f"#case:not([data-key='{case}'])")
    until_saved(page)
    first, second, third = logged(images)
    assert (second["undoes"], third["undoes"]) == (first["id"], second["id"])


def test_all_faces_of_a_large_identity_are_one_decision(
    drawn_folder: Path, tmp_path: Path, chromium: Browser, serve
) -> None:
    picture = Store(convert(drawn_folder, tmp_path / "drawn.lmdb").path).read(0)
    records = [(picture, int(i >= 12_000)) for i in range(12_008)]
    write_layout(tmp_path / "records", records, (112, 112))
    store = convert(tmp_path / "records", tmp_path / "train.lmdb")
    alike = finding("divided", "identity", [0.9, 0.1], 1, other_identity=[1, 0], similarity=[1, 1])
    write_findings(store, [alike])
    server = serve(store.path)
    (context,) = sign_in(chromium, server)
    page = sit_down(context, server, "ada")
    for key in ("ArrowRight", "a", "d"):
        page.keyboard.press(key)
    assert page.inner_text(".plan") == "leave out 12,000 faces"
    page.keyboard.press("Enter")
    until_saved(page)
    context.close()
    assert server.end() == 0
    (event,) = logged(store.path)
    assert event["lines"] == [f"drop {image} 0" for image in range(12_000)]


@pytest.mark.parametrize("is_there", [True, False], ids=["beside the store", "gone"])
def test_a_image_of_an_evaluation_set_is_shown(
    drawn_folder: Path, tmp_path: Path, chromium: Browser, is_there: bool, serve
) -> None:
    store = convert(drawn_folder, tmp_path / "train.lmdb")
    write_pairs(tmp_path / "two.bin", [store.read(i) for i in range(8)], [True] * 4)
    digest = read_pairs(tmp_path / "two.bin").digest
    write_findings(store, all_findings(store), {"one": "", "two": digest})
    if not is_there:
        (tmp_path / "two.bin").unlink()
    server = serve(store.path)
    (context,) = sign_in(chromium, server)
    page = sit_down(context, server, "ada")
    filtered(page, "overlap")
    if is_there:
        expect(page.locator(".compared img")).not_to_have_js_property("naturalWidth", 0)
    said = "image 5 of two" + ("" if is_there else " cannot be shown: the set that was checked")
    assert page.inner_text(".compared figcaption").startswith(said)
    page.keyboard.press("y")
    until_saved(page)
    context.close()
    assert server.end() == 0
    assert logged(store.path)[0]["lines"] == ["drop-identity 5"]


def test_a_merge_shows_its_direction_and_can_be_reversed(page: Page, images: Path) -> None:
    filtered(page, "divided")
    page.keyboard.press("w")
    assert page.inner_text(".plan") == "merge identity 0 → into identity 1"
    page.keyboard.press("w")
    assert page.inner_text(".plan") == "merge identity 1 → into identity 0"
    page.keyboard.press("Enter")
    until_saved(page)
    (event,) = logged(images)
    assert event["lines"] == ["merge 1 0"]


def test_a_proposal_is_marked_once(page: Page) -> None:
    filtered(page, "divided")
    for _ in range(2):
        page.keyboard.press("p")
    expect(page.locator(".plan li")).to_have_count(1)


def test_a_face_moves_to_an_identity_found_by_search(page: Page, images: Path) -> None:
    filtered(page, "misplaced")
    page.keyboard.press("g")
    page.fill("dialog input", "3")
    page.wait_for_selector(".found button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    until_saved(page)
    (event,) = logged(images)
    image = int(event["case"].removeprefix("misplaced-"))
    assert event["lines"] == [f"move {image} {image // 8} 3"]


def test_faces_that_are_already_there_need_no_move(page: Page) -> None:
    filtered(page, "divided")  # identity 0 with images 0 to 7, identity 1 with 8 to 15
    page.click(".pick[data-image='9']")
    page.keyboard.press("d")
    for image in (0, 9, 1):
        page.click(f".pick[data-image='{image}']")
    page.keyboard.press("g")
    page.fill("dialog input", "1")
    page.wait_for_selector(".found button:has-text('identity 1')")
    page.keyboard.press("Enter")
    assert page.inner_text(".plan") == "move 2 faces to identity 1"
    said = page.locator("[role=alert]")
    expect(said).to_have_text("1 of the 3 faces is already there; the others are marked.")
    assert page.locator(".pick[aria-pressed=true]").count() == 0


def test_enter_takes_no_identity_of_an_earlier_search(page: Page, images: Path) -> None:
    held: list[Route] = []
    page.route("**/identities?*q=2*", lambda route: held.append(route))
    filtered(page, "misplaced")
    page.keyboard.press("g")
    page.fill("dialog input", "3")
    page.wait_for_selector(".found button:has-text('identity 3')")
    with page.expect_request("**/identities?*q=2*"):
        page.fill("dialog input", "2")
    page.keyboard.press("Enter")
    held[0].continue_()
    page.wait_for_selector(".found button:has-text('identity 2')")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    until_saved(page)
    (event,) = logged(images)
    assert event["lines"][0].endswith(" 2")


def test_faces_are_chosen_before_their_identity_is_searched(page: Page) -> None:
    filtered(page, "mixed")  # of no single face
    page.keyboard.press("g")
    page.wait_for_selector("[role=alert]:has-text('Choose faces first')")
    assert page.locator("dialog").count() == 0
    for key in ("ArrowRight", " ", "g"):
        page.keyboard.press(key)
    page.wait_for_selector("dialog[open] input")


@pytest.mark.parametrize("how", ["Escape", "Enter"])
def test_a_closed_dialog_returns_the_focus(page: Page, how: str) -> None:
    button = page.get_by_role("button", name="History")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]").get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press(how)
    page.wait_for_selector("dialog", state="detached")
    expect(button).to_be_focused()


def test_a_stale_window_is_refused(page: Page, images: Path) -> None:
    filtered(page, "divided")
    other = Review(Store(images), Findings(images.with_name("train.findings")))
    identity = other.cases.findings[2].identity
    other.decide("b", "bob", "divided-0", identity, 0, "reject")
    page.keyboard.press("y")
    page.wait_for_selector("[role=alert]:has-text('meanwhile bob decided (reject)')")
    if page.get_attribute("#case", "data-key") != "divided-0":
        page.keyboard.press("j")
    page.wait_for_selector("#case[data-key='divided-0'] .badge:has-text('bob: reject')")
    page.wait_for_selector("[role=alert]:has-text('meanwhile bob decided (reject)')")
    assert len(logged(images)) == 1


def test_a_full_disk_keeps_a_decision_until_there_is_room(
    page: Page, server: ReviewServer, images: Path
) -> None:
    press(page, "n")
    until_saved(page)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    case = press(page, "n")
    page.wait_for_selector(".saved:has-text('this decision is not saved; it is sent again')")
    assert len(logged(images)) == 1
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    until_saved(page)
    assert [event["case"] for event in logged(images)][1:] == [case]


def test_changed_keys_are_remembered(page: Page, images: Path) -> None:
    page.keyboard.press("?")
    page.click("dialog button:has-text('y')")
    page.keyboard.press("q")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".pick")
    page.keyboard.press("q")
    until_saved(page)
    assert [event["choice"] for event in logged(images)] in (["accept"], ["reject"])


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("ArrowLeft", "The arrows move from face to face"),
        ("Tab", "Tab moves from control to control"),
        ("Shift", ""),
        ("Control+b", ""),
        ("Escape", ""),
    ],
)
def test_a_key_that_cannot_be_an_actions_is_not_taken(page: Page, key: str, said: str) -> None:
    page.keyboard.press("?")
    button = page.locator("dialog li", has_text="Accept what is proposed").locator("button")
    button.click()
    page.keyboard.press(key)
    if said:
        expect(page.locator("dialog [role=alert]")).to_contain_text(said)
    if key != "Escape":
        page.keyboard.press("q")
    expect(button).to_have_text("y" if key == "Escape" else "q")
    assert page.locator("dialog [role=alert]").count() == 0


def test_a_clicked_button_leaves_the_next_key_to_the_case(page: Page, images: Path) -> None:
    filtered(page, "misplaced")
    page.get_by_role("button", name="Leave out d", exact=True).click()
    page.keyboard.press("Enter")
    until_saved(page)
    (event,) = logged(images)
    assert event["lines"] == [f"drop {shown_image(event)} {shown_image(event) // 8}"]


@pytest.mark.parametrize("keys", [[" ", "ArrowDown", "Enter"], ["ArrowDown", "Enter"]])
def test_a_check_chosen_by_keys_leaves_the_next_key_to_the_case(
    page: Page, images: Path, keys: list[str]
) -> None:
    check = page.get_by_role("combobox", name="Check")
    check.focus()
    for key in keys:
        page.keyboard.press(key)
    expect(check).to_have_value("misplaced")
    expect(check).not_to_be_focused()
    page.wait_for_selector("#case[data-key^='misplaced-']")
    page.keyboard.press("n")
    until_saved(page)
    assert [event["choice"] for event in logged(images)] == ["reject"]


def test_arrows_go_through_the_checks_of_a_closed_choice(page: Page) -> None:
    check = page.get_by_role("combobox", name="Check")
    check.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(check).to_have_value("mixed")
    expect(check).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_review_page_is_accessible(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for key in ("", "?", "h", "b", "e"):
        if key:
            page.keyboard.press(key)
            page.wait_for_selector("dialog[open]")
        assert axe_faults(page) == []
        if key:
            page.keyboard.press("Escape")
            page.wait_for_selector("dialog[open]", state="detached")


def review_command(images: Path, tmp_path: Path, port: str) -> list[str]:
    command = [sys.executable, "-m", "distill.cli.curate", "review", str(images), "--print"]
    return [*command, "--port", port, "--workspace", str(tmp_path / "workspace")]


def test_ctrl_c_ends_a_review_with_its_progress(images: Path, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = review_command(images, tmp_path, "0")
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdout is not None
        link = httpx.URL(server.stdout.readline().strip())
        token = (tmp_path / "workspace" / "daemon" / TOKEN_FILE).read_text()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=link.join("/"), headers=headers, timeout=60) as http:
            sent = {"set": "here", "who": "ada"}
            case, *_ = http.post("/review/next", json=sent).json()
            sent |= {"id": "a", "choice": "reject", "case": case["key"]}
            sent |= {"findings": case["findings"], "seen": case["seen"]}
            assert http.post("/review/decide", json=sent).status_code == 200
        server.send_signal(signal.SIGINT)
        _, said = server.communicate()
    assert server.returncode == 0
    assert said.startswith("the review has ended; 1 of 14 cases")


def test_a_program_gets_the_link_as_json(images: Path, tmp_path: Path) -> None:
    command = [*review_command(images, tmp_path, "0"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        told = json.loads("".join(server.stdout.readline() for _ in range(3)))
        assert httpx.get(told["url"]).status_code == 303
        server.send_signal(signal.SIGINT)
        assert server.stdout.read() == ""


def test_a_port_in_use_is_named(images: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = subprocess.run(
            review_command(images, tmp_path, port),
            capture_output=True,
            text=True,
        )
    assert told.returncode == 1
    assert told.stderr == f"error: --port {port}: Address already in use; choose another, or 0\n"


def test_a_malformed_request_is_refused_in_one_line(
    context: BrowserContext, server: ReviewServer
) -> None:
    page = sit_down(context, server, "ada")
    ask = """async ([path, sent]) => {
        const answer = await fetch(path, sent === null ? {} : {method: "POST",
            headers: {"Content-Type": "application/json"}, body: JSON.stringify(sent)});
        return [answer.status, (await answer.json()).error];
    }"""
    sent = {"set": "here", "who": "ada"}
    decision = {**sent, "id": "a", "case": "misplaced-1", "findings": "x", "seen": 0}
    for path, body, status, said in [
        ("/review/next", {**sent, "check": "nothing"}, 422, "there are no findings of 'nothing'"),
        ("/review/next", {**sent, "who": " "}, 422, "is not a reviewer's name"),
        ("/review/decide", {**decision, "choice": "accept"}, 422, "there is no case"),
        ("/review/decide", {**decision, "choice": "burn"}, 422, "choice:"),
        ("/review/undo", {**sent, "id": "b", "undoes": "c"}, 422, "there is no event 'c'"),
        ("/review/settle", {**sent, "id": "b", "conflict": "c", "keep": "d"}, 409, "is settled"),
        ("/review/case?set=here&key=x-1", None, 422, "there is no case"),
        ("/review/face/0123/1?set=here", None, 404, "have changed"),
    ]:
        got, why = page.evaluate(ask, [path, body])
        assert (got, said in why) == (status, True), (path, got, why)
