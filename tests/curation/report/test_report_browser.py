"""The report in a real browser: what a person sees, presses and downloads."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from planted_findings import all_findings, checked_store, write_findings

from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.noise.findings import save_finding
from curation.noise.overrides import chosen_decisions
from curation.report.page import write_report
from curation.report.siblings import sibling_findings, sibling_views
from curation.store import Store
from curation.view_writing import write_subset
from curation.views import View

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def train(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with findings and a page beside it."""
    folder = tmp_path_factory.mktemp("people")
    store = checked_store(drawn_folder, folder)
    write_subset(folder / f"{'n' * 200}.view", store, np.arange(len(store)) < 8, "first", {})
    write_report(folder / "page.html", store, sibling_findings(store), sibling_views(store))
    return store


@pytest.fixture
def page(chromium: "Browser", train: Store) -> Iterator["Page"]:
    """The page as first opened, on a desktop. All confirmations are given."""
    with chromium.new_context(viewport={"width": 1440, "height": 900}) as context:
        context.on("dialog", lambda dialog: dialog.accept())
        page = context.new_page()
        visit(page, train.path.with_name("page.html"))
        yield page


def visit(page: "Page", path: Path) -> None:
    page.goto(path.resolve().as_uri())


def shown(page: "Page") -> list[str]:
    """The visible cases, in order."""
    return page.evaluate(
        "[...document.querySelectorAll('.case')]"
        ".filter((one) => one.offsetParent).map((one) => one.dataset.key)"
    )


def counted(page: "Page") -> tuple[int, int]:
    """How many cases are decided according to the page, and how many of them changed."""
    words = page.inner_text("#counter").split()
    assert int(words[2]) == page.locator(".buttons").count()
    return int(words[0]), int(words[4])


def wait_for(page: "Page", decided: int, changed: int) -> None:
    """Wait for a decision in one window to reach the other."""
    page.wait_for_function(
        "(numbers) => `${document.querySelector('#counter').innerText.match(/\\d+/g)}` === numbers",
        arg=f"{decided},{page.locator('.buttons').count()},{changed}",
    )
    assert counted(page) == (decided, changed)


def downloaded(page: "Page", path: Path, train: Store) -> list[Decision]:
    """Press the button, and read the file with ``read_decisions``."""
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(path)
    return read_decisions(path, train.digest)


def test_the_page_has_no_errors_and_runs_no_foreign_script(page: "Page") -> None:
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(error.message))
    page.reload()
    assert complaints == []
    assert page.evaluate("window.taken") is None
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [1440, 768, 390, 320])
def test_the_page_is_never_wider_than_the_window(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(page: "Page", scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(CONTRAST)
    assert len(colours) > 10
    # WCAG 2.2, 1.4.3: 4.5 to 1 for text of ordinary size.
    assert {what: ratio for what, ratio in colours.items() if ratio < 4.5} == {}


def test_cases_can_be_filtered_by_check(page: "Page") -> None:
    page.click(".chips [data-check=mixed]")
    assert {key.partition("-")[0] for key in shown(page)} == {"mixed"}
    page.click(".chips [data-check='']")
    assert len({key.partition("-")[0] for key in shown(page)}) == 6


def test_cases_are_ordered_by_score(page: "Page") -> None:
    page.click(".chips [data-check=overlap]")
    assert shown(page) == [f"overlap-{number}" for number in (5, 4, 3, 2, 1, 0)]
    page.select_option("#order", "up")
    assert shown(page) == [f"overlap-{number}" for number in (0, 1, 2, 3, 4, 5)]


def test_keys_navigate_and_decide(page: "Page", train: Store, tmp_path: Path) -> None:
    page.keyboard.type("jnyj")  # reject the worst, accept the second, skip the third
    assert counted(page) == (2, 1)
    assert "Will not leave out image 47" in page.inner_text("#case-misplaced-47")
    made = [(line.image, line.apply) for line in downloaded(page, tmp_path / "override.tsv", train)]
    assert made == [(47, False), (46, True)]
    page.keyboard.type("kku")  # back to the second, undo
    assert counted(page) == (1, 1)


def test_a_key_held_down_decides_about_one_case(page: "Page") -> None:
    page.keyboard.press("j")
    for _ in range(3):
        page.keyboard.down("y")
    assert counted(page)[0] == 1


def test_keys_decide_about_the_case_last_clicked(page: "Page") -> None:
    page.keyboard.press("j")
    page.click("#case-misplaced-46 h4")
    page.keyboard.press("y")
    assert page.get_attribute("#case-misplaced-46", "data-verdict") == "yes"
    assert page.get_attribute("#case-misplaced-47", "data-verdict") == ""


def test_keys_decide_about_no_hidden_case(page: "Page") -> None:
    page.keyboard.press("j")
    page.click(".chips [data-check=divided]")
    page.keyboard.press("y")
    assert counted(page) == (0, 0)
    page.keyboard.type("jy")
    assert {key.partition("-")[0] for key in shown(page)} == {"divided"}
    assert counted(page)[0] == 1


def test_buttons_decide_and_undo(page: "Page") -> None:
    reject = "#case-divided-0 [data-verdict=no]"
    page.click(reject)
    assert counted(page) == (1, 1)
    assert page.get_attribute(reject, "aria-pressed") == "true"
    page.click(reject)
    assert counted(page) == (0, 0)


def test_a_case_below_the_edge_can_be_accepted(page: "Page", train: Store, tmp_path: Path) -> None:
    page.click("#case-overlap-4 [data-verdict=yes]")
    page.click("#case-mixed-0 [data-verdict=yes]")
    lines = downloaded(page, tmp_path / "override.tsv", train)
    assert [(line.action, line.identity, line.image, line.into) for line in lines] == [
        ("split", 0, 6, 1),
        ("split", 0, 7, 1),
        ("drop-identity", 4, None, None),
    ]
    assert all(line.apply for line in lines)


def test_decisions_on_the_page_are_applied(page: "Page", train: Store, tmp_path: Path) -> None:
    page.click("#case-misplaced-47 [data-verdict=no]")
    page.click("#case-overlap-4 [data-verdict=yes]")
    downloaded(page, tmp_path / "override.tsv", train)
    clean, override = tmp_path / "clean.view", tmp_path / "override.tsv"
    command = [sys.executable, "-m", "distill.cli.curate", "clean", str(train.path), str(clean)]
    subprocess.run([*command, "--override", str(override)], check=True, capture_output=True)
    kept = set(View(clean).rows.tolist())
    # Images 41 to 47 would be dropped for their identity, 0 to 2 as copies.
    assert kept & set(range(41, 48)) == {47}
    assert kept & set(range(32, 40)) == set()


def test_cases_can_be_filtered_to_undecided_ones(page: "Page") -> None:
    page.click(".chips [data-check=divided]")
    page.click("#case-divided-0 [data-verdict=no]")
    page.click("#case-divided-2 [data-verdict=no]")
    for value, expected in (("open", 4), ("decided", 2), ("changed", 1), ("all", 6)):
        page.select_option("#show", value)
        assert len(shown(page)) == expected, value


def test_verdicts_persist_when_the_page_is_reopened(page: "Page", train: Store) -> None:
    page.click("#case-divided-0 [data-verdict=no]")
    visit(page, train.path.with_name("page.html"))
    assert counted(page) == (1, 1)
    page.click("#forget")
    assert counted(page) == (0, 0)


class TestTwoWindows:
    @pytest.fixture
    def other(self, page: "Page", train: Store) -> "Page":
        """A second window of the same browser, on the same page."""
        other = page.context.new_page()
        visit(other, train.path.with_name("page.html"))
        return other

    def test_each_sees_the_other_windows_decisions_at_once(
        self, page: "Page", other: "Page"
    ) -> None:
        page.click("#case-misplaced-47 [data-verdict=no]")
        other.click("#case-misplaced-46 [data-verdict=yes]")
        for window in (page, other):
            wait_for(window, 2, 1)
            assert "Will not leave out image 47" in window.inner_text("#case-misplaced-47")
        other.click("#case-misplaced-47 [data-verdict=no]")  # undo
        wait_for(page, 1, 0)

    def test_the_download_and_the_next_visit_have_both(
        self, page: "Page", other: "Page", train: Store, tmp_path: Path
    ) -> None:
        page.click("#case-misplaced-47 [data-verdict=no]")
        other.click("#case-overlap-4 [data-verdict=yes]")
        wait_for(page, 2, 2)
        lines = downloaded(page, tmp_path / "override.tsv", train)
        made = [(line.action, line.apply) for line in lines]
        assert made == [("drop", False), ("drop-identity", True)]
        visit(page, train.path.with_name("page.html"))
        assert counted(page) == (2, 2)

    def test_forgetting_in_one_window_affects_the_other(self, page: "Page", other: "Page") -> None:
        page.click("#case-misplaced-47 [data-verdict=no]")
        wait_for(other, 1, 1)
        page.click("#forget")
        wait_for(other, 0, 0)
        page.click("#case-misplaced-47 [data-verdict=no]")
        wait_for(other, 1, 1)
        page.evaluate("localStorage.clear()")
        wait_for(other, 0, 0)


def test_a_verdict_is_bound_to_its_findings_and_proposal(
    page: "Page", train: Store, tmp_path: Path
) -> None:
    page.click("#case-divided-0 [data-verdict=yes]")
    page.click("#case-misplaced-47 [data-verdict=no]")
    own = train.path.with_name("train.findings")
    kept = own.rename(tmp_path / "kept")
    try:
        # Another teacher: the same images are misplaced, other identities are one person.
        findings = all_findings(train)
        divided = next(one for one in findings if one.check == "divided")
        divided.evidence["other_identity"][:] = (np.arange(6) + 2) % 6
        again = write_findings(train, findings, {"one": "", "two": ""})
        write_report(tmp_path / "again.html", train, again)
        visit(page, tmp_path / "again.html")
        assert counted(page) == (1, 1)
        assert "Will not leave out image 47" in page.inner_text("#case-misplaced-47")
        changed = page.get_attribute("#case-divided-0", "data-verdict")
        assert changed == ""
    finally:
        shutil.rmtree(own)
        kept.rename(own)


def test_verdicts_stored_by_image_alone_are_ignored(page: "Page", train: Store) -> None:
    old = f"curation-report:# decisions on the images {train.digest}"
    page.evaluate('(old) => localStorage.setItem(old, \'{"divided-0": "yes"}\')', old)
    visit(page, train.path.with_name("page.html"))
    assert counted(page) == (0, 0)


def test_a_download_is_refused_after_another_teachers_check(
    page: "Page", train: Store, tmp_path: Path
) -> None:
    page.click("#case-divided-0 [data-verdict=yes]")
    (line,) = downloaded(page, tmp_path / "override.tsv", train)
    assert line.findings == sibling_findings(train).load("divided").identity
    folder = tmp_path / "train.findings"
    shutil.copytree(train.path.with_name("train.findings"), folder)
    findings = all_findings(train)
    findings[2].scores[:] = findings[2].scores * 0.9
    save_finding(folder, findings[2])
    write_decisions(folder / DECISIONS_FILE, train.digest, [])
    with pytest.raises(UserError, match=r"override\.tsv line 3: merge 0 1 \(divided-"):
        chosen_decisions(folder / DECISIONS_FILE, [tmp_path / "override.tsv"], train, folder)


def test_the_printed_page_has_no_controls(page: "Page") -> None:
    on_screen = shown(page)
    page.emulate_media(media="print")
    assert page.locator("button:visible, select:visible").count() == 0
    assert shown(page) == on_screen


CONTRAST = """() => {
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const colour = channels(getComputedStyle(element).backgroundColor);
    if (colour[3] !== 0) return colour;
  }
};
const found = {};
const looked = "body *:not(script):not(:disabled):not(:disabled *)";
for (const element of document.querySelectorAll(looked)) {
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!hasText || !element.offsetParent) continue;
  const pair = [channels(getComputedStyle(element).color), behind(element)].map(luminance).sort();
  const name = element.tagName + "." + element.className;
  const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  found[name] = Math.min(found[name] ?? 21, ratio);
}
return found;
}"""
