"""The report in a real browser: what a person sees, presses and downloads."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_browser, open_browser
from planted_findings import all_findings, write_findings

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.noise.findings import save_finding
from curation.noise.overrides import chosen_decisions
from curation.report.page import write_report
from curation.report.siblings import sibling_findings
from curation.store import Store
from curation.views import View

PATIENCE = 20.0


@pytest.fixture(scope="module")
def train(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with findings and a page beside it."""
    folder = tmp_path_factory.mktemp("people")
    store = convert(drawn_folder, folder / "train.lmdb")
    findings = write_findings(store, all_findings(store), {"one": "", "two": ""})
    write_report(folder / "page.html", store, findings)
    return store


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def window(train: Store, downloads: Path) -> Iterator[Browser]:
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium with its ChromeDriver on this machine")
    with open_browser(*found, downloads) as browser:
        browser.open(train.path.with_name("page.html"))
        yield browser


@pytest.fixture
def page(window: Browser, train: Store) -> Browser:
    """The page as first opened, on a desktop."""
    window.resize(1440)
    window.run("localStorage.clear()")
    window.open(train.path.with_name("page.html"))
    return window


def shown(page: Browser) -> list[str]:
    """The visible cases, in order."""
    return page.run(
        "return [...document.querySelectorAll('.case')]"
        ".filter((one) => one.offsetParent).map((one) => one.dataset.key)"
    )


def text(page: Browser, selector: str) -> str:
    return page.run("return document.querySelector(arguments[0]).innerText", selector)


def counted(page: Browser) -> tuple[int, int]:
    """How many cases are decided according to the page, and how many of them changed."""
    words = text(page, "#counter").split()
    assert int(words[2]) == page.run("return document.querySelectorAll('.buttons').length")
    return int(words[0]), int(words[4])


def choose(page: Browser, selector: str, value: str) -> None:
    """Choose from a list like a person."""
    page.run(
        "const list = document.querySelector(arguments[0]); list.value = arguments[1];"
        "list.dispatchEvent(new Event('change'))",
        *(selector, value),
    )


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for a decision in one window to reach the other."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


def downloaded(page: Browser, folder: Path, train: Store) -> list[Decision]:
    """Press the button, and read the file with ``read_decisions``."""
    path = folder / "override.tsv"
    path.unlink(missing_ok=True)
    page.click("#download")
    end = time.monotonic() + PATIENCE
    # The browser creates the file before writing it.
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, "nothing was downloaded"
        time.sleep(0.05)
    return read_decisions(path, train.digest)


def test_the_page_has_no_errors_and_runs_no_foreign_script(page: Browser) -> None:
    assert page.complaints() == []
    assert page.run("return window.taken") is None
    assert page.run("return [...document.images].every((image) => image.naturalWidth > 0)")
    loaded = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [1440, 768, 390, 320])
def test_the_page_is_never_wider_than_the_window(page: Browser, width: int) -> None:
    page.resize(width)
    assert page.run("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(page: Browser, scheme: str) -> None:
    page.prefer(scheme)
    colours = page.run(CONTRAST)
    page.prefer("light")
    assert len(colours) > 10
    # WCAG 2.2, 1.4.3: 4.5 to 1 for text of ordinary size.
    assert {what: ratio for what, ratio in colours.items() if ratio < 4.5} == {}


def test_cases_can_be_filtered_by_check(page: Browser) -> None:
    page.click(".chips [data-check=mixed]")
    assert {key.partition("-")[0] for key in shown(page)} == {"mixed"}
    page.click(".chips [data-check='']")
    assert len({key.partition("-")[0] for key in shown(page)}) == 6


def test_cases_are_ordered_by_score(page: Browser) -> None:
    page.click(".chips [data-check=overlap]")
    assert shown(page) == [f"overlap-{number}" for number in (5, 4, 3, 2, 1, 0)]
    choose(page, "#order", "up")
    assert shown(page) == [f"overlap-{number}" for number in (0, 1, 2, 3, 4, 5)]


def test_keys_navigate_and_decide(page: Browser, downloads: Path, train: Store) -> None:
    page.press("jnyj")  # reject the worst, accept the second, skip the third
    assert counted(page) == (2, 1)
    assert "Will not leave out image 47" in text(page, "#case-misplaced-47")
    made = [(line.image, line.apply) for line in downloaded(page, downloads, train)]
    assert made == [(47, False), (46, True)]
    page.press("kku")  # back to the second, undo
    assert counted(page) == (1, 1)


def test_buttons_decide_and_undo(page: Browser) -> None:
    reject = "#case-divided-0 [data-verdict=no]"
    page.click(reject)
    assert counted(page) == (1, 1)
    assert page.run("return document.querySelector(arguments[0]).ariaPressed", reject) == "true"
    page.click(reject)
    assert counted(page) == (0, 0)


def test_a_case_below_the_edge_can_be_accepted(
    page: Browser, downloads: Path, train: Store
) -> None:
    page.click("#case-overlap-4 [data-verdict=yes]")
    page.click("#case-mixed-0 [data-verdict=yes]")
    lines = downloaded(page, downloads, train)
    assert [(line.action, line.identity, line.image, line.into) for line in lines] == [
        ("split", 0, 6, 1),
        ("split", 0, 7, 1),
        ("drop-identity", 4, None, None),
    ]
    assert all(line.apply for line in lines)


def test_decisions_on_the_page_are_applied(
    page: Browser, downloads: Path, train: Store, tmp_path: Path
) -> None:
    page.click("#case-misplaced-47 [data-verdict=no]")
    page.click("#case-overlap-4 [data-verdict=yes]")
    downloaded(page, downloads, train)
    clean, override = tmp_path / "clean.view", downloads / "override.tsv"
    command = [sys.executable, "-m", "distill.cli.curate", "clean", str(train.path), str(clean)]
    subprocess.run([*command, "--override", str(override)], check=True, capture_output=True)
    kept = set(View(clean).rows.tolist())
    # Images 41 to 47 would be dropped for their identity, 0 to 2 as copies.
    assert kept & set(range(41, 48)) == {47}
    assert kept & set(range(32, 40)) == set()


def test_cases_can_be_filtered_to_undecided_ones(page: Browser) -> None:
    page.click(".chips [data-check=divided]")
    page.click("#case-divided-0 [data-verdict=no]")
    page.click("#case-divided-2 [data-verdict=no]")
    for value, expected in (("open", 4), ("decided", 2), ("changed", 1), ("all", 6)):
        choose(page, "#show", value)
        assert len(shown(page)) == expected, value


def test_verdicts_persist_when_the_page_is_reopened(page: Browser, train: Store) -> None:
    page.click("#case-divided-0 [data-verdict=no]")
    page.open(train.path.with_name("page.html"))
    assert counted(page) == (1, 1)
    page.click("#forget")
    page.accept_dialog()
    assert counted(page) == (0, 0)


class TestTwoWindows:
    @pytest.fixture
    def other(self, page: Browser, train: Store) -> Iterator[Browser]:
        """A second window of the same browser, on the same page."""
        with page.another_window() as other:
            other.resize(1440)
            other.open(train.path.with_name("page.html"))
            yield other

    def test_each_sees_the_other_windows_decisions_at_once(
        self, page: Browser, other: Browser
    ) -> None:
        page.click("#case-misplaced-47 [data-verdict=no]")
        other.click("#case-misplaced-46 [data-verdict=yes]")
        for window in (page, other):
            wait_until(lambda window=window: counted(window) == (2, 1))
            assert "Will not leave out image 47" in text(window, "#case-misplaced-47")
        other.click("#case-misplaced-47 [data-verdict=no]")  # undo
        wait_until(lambda: counted(page) == (1, 0))

    def test_the_download_and_the_next_visit_have_both(
        self, page: Browser, other: Browser, downloads: Path, train: Store
    ) -> None:
        page.click("#case-misplaced-47 [data-verdict=no]")
        other.click("#case-overlap-4 [data-verdict=yes]")
        wait_until(lambda: counted(page) == (2, 2))
        made = [(line.action, line.apply) for line in downloaded(page, downloads, train)]
        assert made == [("drop", False), ("drop-identity", True)]
        page.open(train.path.with_name("page.html"))
        assert counted(page) == (2, 2)

    def test_forgetting_in_one_window_affects_the_other(
        self, page: Browser, other: Browser
    ) -> None:
        page.click("#case-misplaced-47 [data-verdict=no]")
        wait_until(lambda: counted(other) == (1, 1))
        page.click("#forget")
        page.accept_dialog()
        wait_until(lambda: counted(other) == (0, 0))
        page.click("#case-misplaced-47 [data-verdict=no]")
        wait_until(lambda: counted(other) == (1, 1))
        page.run("localStorage.clear()")
        wait_until(lambda: counted(other) == (0, 0))


def test_a_verdict_is_bound_to_its_findings_and_proposal(
    page: Browser, train: Store, tmp_path: Path
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
        page.open(tmp_path / "again.html")
        assert counted(page) == (1, 1)
        assert "Will not leave out image 47" in text(page, "#case-misplaced-47")
        changed = page.run("return document.querySelector('#case-divided-0').dataset.verdict")
        assert changed == ""
    finally:
        shutil.rmtree(own)
        kept.rename(own)


def test_verdicts_stored_by_image_alone_are_ignored(page: Browser, train: Store) -> None:
    old = f"curation-report:# decisions on the images {train.digest}"
    page.run('localStorage.setItem(arguments[0], \'{"divided-0": "yes"}\')', old)
    page.open(train.path.with_name("page.html"))
    assert counted(page) == (0, 0)


def test_a_download_is_refused_after_another_teachers_check(
    page: Browser, downloads: Path, train: Store, tmp_path: Path
) -> None:
    page.click("#case-divided-0 [data-verdict=yes]")
    (line,) = downloaded(page, downloads, train)
    assert line.findings == sibling_findings(train).load("divided").identity
    folder = tmp_path / "train.findings"
    shutil.copytree(train.path.with_name("train.findings"), folder)
    findings = all_findings(train)
    findings[2].scores[:] = findings[2].scores * 0.9
    save_finding(folder, findings[2])
    write_decisions(folder / DECISIONS_FILE, train.digest, [])
    with pytest.raises(UserError, match=r"override\.tsv line 3: merge 0 1 \(divided-"):
        chosen_decisions(folder / DECISIONS_FILE, [downloads / "override.tsv"], train, folder)


def test_the_printed_page_has_no_controls(page: Browser) -> None:
    on_screen = shown(page)
    page.on_paper()
    buttons = (
        "return [...document.querySelectorAll('button, select')].filter((e) => e.offsetParent)"
    )
    assert page.run(buttons) == []
    assert shown(page) == on_screen
    page.on_paper(False)


CONTRAST = """
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
"""
