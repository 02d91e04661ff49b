"""A job in a browser."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from distill.web.logs import MOST_FOUND, MOST_LINES, LogLine, search, tail
from tests.distill.daemon.harness import make_odd, wait_until
from tests.distill.web.pages_harness import Pages, axe_faults

WRITES = """
import json, os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
steps = [dict(name="teach", kind="teach", state="running", note="<b>bold</b>")]
(run / "steps.json").write_text(json.dumps(steps))
for at in range(300):
    with (run / "metrics.jsonl").open("a") as file:
        row = dict(step="teach", iteration=10 * at, loss_total=300 - at, learning_rate=0.1)
        file.write(json.dumps(row) + chr(10))
print("first words")
print("<script>document.title = 'taken'</script>", flush=True)
steps[0] |= dict(state="done", seconds=75.0)
(run / "steps.json").write_text(json.dumps(steps))
measured = dict(accuracy=0.9125, accuracy_interval=[0.9, 0.925], tar_at_far={"1e-3": dict(tar=0.5)})
scored = dict(networks=dict(student=dict(sets=dict(lfw=measured))))
(run / "evaluation.json").write_text(json.dumps(scored))
(run / "bundle" / "deep").mkdir(parents=True)
(run / "bundle" / "model.onnx").write_bytes(b"weights" * 1000)
(run / "bundle" / "deep" / "more.bin").write_bytes(b"more")
(run / "bundle" / os.fsdecode(b"\\xff\\x1b[2J")).write_bytes(b"not UTF-8")
(run / "bundle" / "beside").symlink_to(run / "log.txt")
(run / "bundle" / "outside").symlink_to("/etc/hostname")
while not (run / "go").exists(): time.sleep(0.05)
with (run / "metrics.jsonl").open("a") as file:
    row = dict(step="teach", iteration=4000, loss_total=7, learning_rate=0.1)
    file.write(json.dumps(row) + chr(10))
print("last words")
"""


@pytest.fixture(scope="module")
def job(pages: Pages) -> str:
    pages.submit("shown", WRITES)
    written = pages.workspace.runs / "shown" / "bundle" / "outside"
    wait_until(written.is_symlink, "the job has written all but its last words")
    return "shown"


def test_a_job_is_shown_while_it_runs(pages: Pages, job: str, browser_page: Page) -> None:
    page = browser_page
    page.goto(f"{pages.url}/jobs/{job}")
    road = page.get_by_role("list", name="The steps")
    expect(road).to_contain_text("done in 1 min")
    expect(road).to_contain_text("<b>bold</b>")
    expect(page.locator("#log")).to_contain_text("<script>document.title")
    page.reload()
    legend = page.locator(".plot").first.locator(".u-legend")
    expect(legend).to_contain_text("loss_total")
    plot = page.locator(".plot").first
    over = plot.locator(".u-over")
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50, steps=4)
    page.mouse.up()
    expect(plot).to_have_attribute("data-zoom", "748 1495")
    (pages.workspace.runs / job / "go").touch()
    expect(page.locator("#log")).to_contain_text("last words")
    expect(plot).to_have_attribute("data-zoom", "748 1495")  # new points arrived, the zoom stayed
    over.dblclick()
    expect(plot).to_have_attribute("data-zoom", "")
    page.get_by_label("Search the log").fill("FIRST")
    expect(page.locator("#log")).to_have_text("first words")
    expect(page.get_by_role("row", name="student lfw accuracy")).to_contain_text("0.9000 to 0.9250")


def test_long_words_do_not_widen_a_page(pages: Pages, browser_page: Page) -> None:
    failure = json.dumps({"reason": "x" * 300})
    pages.submit(
        "long-words",
        f"""
import pathlib, sys
run = pathlib.Path(sys.argv[1])
(run / "bundle").mkdir()
(run / "bundle" / ("f" * 200)).touch()
(run / "failure.json").write_text({failure!r})
sys.exit(1)
""",
        label="L" * 64,
    )
    pages.wait_for("long-words", "failed")
    browser_page.set_viewport_size({"width": 360, "height": 740})
    for path, shown in (("/", "L" * 64), ("/jobs/long-words", "f" * 200)):
        browser_page.goto(f"{pages.url}{path}")
        expect(browser_page.get_by_role("link", name=shown)).to_be_visible()
        assert browser_page.evaluate("document.documentElement.scrollWidth") == 360, path


def test_log_bundle_and_spec_can_be_downloaded(pages: Pages, job: str) -> None:
    (pages.workspace.runs / job / "go").touch()
    pages.wait_for(job, "done")
    pages.submit("cousin", WRITES.replace("300", "30"), hold="true")
    with pages.program() as http:
        whole = http.get(f"/jobs/{job}/log.txt")
        assert "attachment" in whole.headers["content-disposition"]
        assert whole.content == (pages.workspace.runs / job / "log.txt").read_bytes()
        assert http.get(f"/jobs/{job}/bundle/deep/more.bin").content == b"more"
        for outside in ("outside", "beside", "%2e%2e/log.txt", "/etc/hostname", "nothing"):
            assert http.get(f"/jobs/{job}/bundle/{outside}").status_code in (404, 422)
        with tarfile.open(fileobj=io.BytesIO(http.get(f"/jobs/{job}/bundle.tar").content)) as tar:
            odd = os.fsdecode(b"shown/\xff\x1b[2J")
            assert tar.getnames() == ["shown/deep/more.bin", "shown/model.onnx", odd]
            assert tar.extractfile("shown/model.onnx").read() == b"weights" * 1000  # type: ignore[union-attr]
        html = {"Accept": "text/html"}
        listed = http.get(f"/jobs/{job}", headers=html).text
        assert f"/jobs/{job}/bundle/deep/more.bin" in listed
        assert f"/jobs/{job}/bundle/outside" not in listed  # as in the tar file
        assert "<code>code</code>" in http.get(f"/jobs/{job}?other=cousin", headers=html).text
        assert "are the same" in http.get(f"/jobs/{job}?other={job}", headers=html).text
        assert "no job &#39;none&#39;" in http.get(f"/jobs/{job}?other=none", headers=html).text
        unknown = http.get("/jobs/none", headers=html)
        assert (unknown.status_code, "distill status" in unknown.text) == (404, True)
        points = {"job": job, "key": "loss_total", "step": "teach", "first": 100, "last": 200}
        (found,) = http.get("/curves", params=points).json()
        assert found["x"] == [10.0 * at for at in range(10, 21)]
        assert (
            http.get("/curves", params={"job": "../x", "key": "k", "step": "s"}).status_code == 422
        )


def test_the_end_of_a_long_log_and_a_search_in_it(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert tail(path).lines == []
    path.write_bytes(b"old\n" * 50_000 + b"bar 1\rbar 2\r\n\x1b[31mred\xff\n" + b"x" * 300_000)
    end = tail(path)
    assert end.more
    assert len(end.lines[-1].text) <= 2000
    found = search(path, "OLD")
    assert (len(found.lines), found.more) == (MOST_FOUND, True)
    assert search(path, "bar").lines == [LogLine(200_000, "bar 2")]
    assert search(path, "red").lines[0].text.startswith("\\x1b[31mred")
    assert search(path, "red").lines[0].at == 200_000 + len(b"bar 1\rbar 2\r\n")
    assert search(path, "xxx").lines[0].at == path.stat().st_size - 300_000
    assert search(path, "nothing like this").lines == []


def test_the_end_of_a_log_has_a_limited_number_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"\n" * (MOST_LINES + 5))
    end = tail(path)
    assert (len(end.lines), end.more, end.lines[0].at) == (MOST_LINES, True, 5)
    path.write_bytes(b"\n" * MOST_LINES)
    assert not tail(path).more


@pytest.mark.parametrize("kind", ["folder", "pipe", "zero"])
def test_a_log_that_is_not_a_file_is_named_on_the_page(pages: Pages, kind: str) -> None:
    name = f"odd-{kind}"
    pages.submit(name, hold="true")
    make_odd(pages.workspace.runs / name / "log.txt", kind)
    with pages.program() as http:
        page = http.get(f"/jobs/{name}", headers={"Accept": "text/html"})
        assert (page.status_code, "log.txt: it is a" in page.text) == (200, True)
        assert http.get(f"/jobs/{name}/log.txt").status_code == 422


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1440, "dark")])
def test_a_job_page_is_accessible(
    pages: Pages, job: str, chromium: Browser, width: int, theme: str
) -> None:
    view = {"width": width, "height": 900}
    context = chromium.new_context(viewport=view, color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    page.goto(pages.link(f"/jobs/{job}"))
    expect(page.locator(".u-legend").first).to_be_visible()
    assert axe_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_a_log_opens_at_its_newest_lines(pages: Pages, browser_page: Page) -> None:
    pages.submit("wordy", "print('line\\n' * 300, flush=True)")
    pages.wait_for("wordy", "done")
    browser_page.goto(f"{pages.url}/jobs/wordy")
    log = browser_page.locator("#log")
    expect(log).to_contain_text("line")
    assert log.evaluate("log => log.scrollTop") > 0
    assert log.evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop") < 2


GROWS = """
import json, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
def metrics(step, at, **more):
    row = dict(step=step, iteration=at, loss_total=300 - at, **more)
    with (run / "metrics.jsonl").open("a") as file: file.write(json.dumps(row) + chr(10))
for at in range(100): metrics("teach", at)
for line in range(1500): print("line", line, flush=True)
for number in range(1000):
    while not (run / f"go-{number}").exists(): time.sleep(0.05)
    metrics("teach", 100 + number, loss_parts=2)
    metrics(f"generation-{number}", 1)
    for line in range(10): print("new line", number, flush=True)
"""


def test_a_live_update_keeps_what_the_user_did(pages: Pages, browser_page: Page) -> None:
    page, run = browser_page, pages.workspace.runs / "growing"
    pages.submit("growing", GROWS)
    wait_until(lambda: "line 1499\n" in text_of(run / "log.txt"), "the log is long")
    page.goto(f"{pages.url}/jobs/growing")
    log, plot = page.locator("#log"), page.locator(".plot").first
    over = plot.locator(".u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 50, steps=4)
    page.mouse.up()
    zoom = plot.get_attribute("data-zoom")
    assert zoom
    opened = page.locator("details", has_text="As it was submitted")
    opened.locator("summary").click()
    page.get_by_label("Compare with").fill("typed")
    button = page.get_by_role("button", name="Cancel growing")
    button.focus()
    log.evaluate("""log => {
        log.scrollIntoView();
        log.scrollTop = 9000;
        const line = log.children[Math.round(log.children.length * 0.6)];
        getSelection().selectAllChildren(line);
        window.line = line, window.lineTop = line.getBoundingClientRect().top;
    }""")
    chosen = page.evaluate("getSelection().toString()")
    assert chosen.startswith("line ")
    (run / "go-0").touch()
    chips = page.get_by_role("navigation", name="Step")
    expect(chips).to_contain_text("generation-0")
    expect(log).to_contain_text("new line 0")
    expect(plot.locator(".u-legend")).to_contain_text("loss_parts")
    expect(chips.locator("[aria-current]")).to_have_text("teach")  # a zoomed curve stays
    expect(plot).to_have_attribute("data-zoom", zoom)
    expect(button).to_be_focused()
    expect(opened).to_have_attribute("open", "")
    expect(page.get_by_label("Compare with")).to_have_value("typed")
    assert page.evaluate("getSelection().toString()") == chosen
    moved = "Math.abs(window.line.getBoundingClientRect().top - window.lineTop)"
    assert page.evaluate(moved) < 2
    over.dblclick()
    log.evaluate("log => { log.scrollTop = log.scrollHeight; }")
    (run / "go-1").touch()
    expect(log).to_contain_text("new line 1")
    expect(chips.locator("[aria-current]")).to_have_text("generation-1")
    assert log.evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop") < 2
    page.get_by_label("Search the log").fill("NEW LINE 1")
    expect(log.locator("span")).to_have_count(10)
    (run / "go-2").touch()
    expect(chips).to_contain_text("generation-2")
    expect(log.locator("span")).to_have_count(10)
    page.get_by_label("Search the log").press("Enter")
    expect(page).to_have_url(f"{pages.url}/jobs/growing")


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
