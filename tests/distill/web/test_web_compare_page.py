"""Jobs compared in a browser."""

from playwright.sync_api import Browser, Page, expect

from distill.comparison import Row
from distill.web.routes.compare import apart
from tests.distill.web.pages_harness import Pages, axe_faults

WRITES = """
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
for at in range(20):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(dict(step="teach", iteration=at, loss_total=at)) + chr(10))
measured = dict(accuracy=ACCURACY, accuracy_interval=[ACCURACY - 0.02, ACCURACY + 0.02], digest="d")
(run / "evaluation.json").write_text(json.dumps(dict(sets=dict(lfw=measured))))
"""


def test_disjoint_intervals_are_marked() -> None:
    row = Row(
        measure="accuracy", values=[0.9, 0.95, 0.91, None], deviations=[None] * 4, best=[1],
        intervals=[[0.89, 0.91], [0.94, 0.96], [0.90, 0.92], None],
    )  # fmt: skip
    assert apart(row) == [False, True, False, False]
    assert apart(Row(measure="size", values=[1, 2], deviations=[None] * 2, best=[])) == [False] * 2


def test_jobs_are_compared(pages: Pages, browser_page: Page, chromium: Browser) -> None:
    page = browser_page
    for name, accuracy in (("weak", "0.80"), ("strong", "0.95"), ("alike", "0.81")):
        pages.submit(name, WRITES.replace("ACCURACY", accuracy))
        pages.wait_for(name, "done")
    page.goto(f"{pages.url}/compare")
    for name in ("weak", "strong", "alike"):
        page.get_by_label("Another job").fill(name)
        page.keyboard.press("Enter")
        expect(page.get_by_label(f"Leave {name} out")).to_be_visible()
    row = page.get_by_role("row", name="lfw: accuracy")
    expect(row.get_by_role("cell").nth(1)).to_contain_text("more than noise")
    expect(row.get_by_role("cell").nth(2)).not_to_contain_text("more than noise")
    expect(page.locator(".u-legend")).to_contain_text("strong")
    expect(page.get_by_role("row", name="code").first).to_contain_text("0.95")
    assert axe_faults_of(page.url, pages, chromium) == []
    page.get_by_label("Leave strong out").click()
    expect(page).to_have_url(f"{pages.url}/compare?job=weak&job=alike&step=teach")
    page.goto(f"{pages.url}/compare?job=weak&job=none")
    expect(page.get_by_text("there is no job 'none'")).to_be_visible()


def axe_faults_of(url: str, pages: Pages, chromium: Browser) -> list[str]:
    context = chromium.new_context(viewport={"width": 390, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto(pages.link(url.removeprefix(pages.url)))
    expect(page.locator(".u-legend")).to_be_visible()
    faults = axe_faults(page)
    if page.evaluate("document.documentElement.scrollWidth") > 390:
        faults.append("wider than a phone")
    context.close()
    return faults
