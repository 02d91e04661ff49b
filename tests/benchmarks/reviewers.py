"""`curate review` in a separate process, and people who press keys in a browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# The time from a key until the next case is drawn, with its face.
MEASURE = """
window.waits = [];
let pressed = null;
addEventListener("keydown", (event) => {
  const place = document.getElementById("case");
  if (place && "yni".includes(event.key)) pressed = [event.timeStamp, place.dataset.key];
}, true);
const look = () => {
  const place = document.getElementById("case");
  if (pressed && place && place.dataset.key && place.dataset.key !== pressed[1]) {
    const picture = place.querySelector(".pick img");
    if (picture && picture.complete && picture.naturalWidth) {
      window.waits.push(performance.now() - pressed[0]);
      pressed = null;
    }
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


class ReviewServer:
    """Serves one image set; keeps its address when killed and restarted."""

    def __init__(self, images: Path, workspace: Path) -> None:
        self._images, self._workspace = images, workspace
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.link = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "distill.cli.curate", "review", str(self._images)]
        options = ["--print", "--port", str(self._port), "--workspace", str(self._workspace)]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.link = self._process.stdout.readline().strip()
        assert self.link, "the server ended"
        self._port = urlsplit(self.link).port or 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def memory(self) -> float:
        """Megabytes of anonymous memory."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        (line,) = [each for each in text.splitlines() if each.startswith("Anonymous:")]
        return int(line.split()[1]) * 1024 / 1e6

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        os.kill(self._process.pid, number)
        self._process.stdout.close()
        return self._process.wait(60)


def sign_in(chromium: Browser, server: ReviewServer, people: int = 1) -> list[BrowserContext]:
    """Browsers that know the server's key, one per person."""
    contexts = [chromium.new_context(viewport={"width": 1440, "height": 900})]
    page = contexts[0].new_page()
    page.goto(server.link)
    page.wait_for_selector("input[name=who]")
    page.close()
    cookies = contexts[0].cookies()
    for _ in range(people - 1):
        contexts.append(chromium.new_context(viewport={"width": 1440, "height": 900}))
        contexts[-1].add_cookies(cookies)  # type: ignore[arg-type]
    return contexts


def sit_down(context: BrowserContext, server: ReviewServer, who: str) -> Page:
    """A window in which somebody looks at the first case."""
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.add_init_script(MEASURE)
    parts = urlsplit(server.link)
    page.goto(f"{parts.scheme}://{parts.netloc}/review?set=here")
    if page.evaluate("localStorage.getItem('review-who')") != who:
        if page.locator("input[name=who]").count() == 0:
            page.evaluate("localStorage.clear()")
            page.reload()
        page.fill("input[name=who]", who)
        page.keyboard.press("Enter")
    page.wait_for_selector("#case[data-key]:not([data-key=''])")
    return page


def press(page: Page, key: str) -> str | None:
    """Decide the shown case by a key; its name, or None if none is open."""
    case = page.wait_for_selector("#case:not([data-key='']), #case:has-text('Nothing is open')")
    assert case is not None
    before = case.get_attribute("data-key")
    if not before:
        return None
    page.keyboard.press(key)
    expect(page.locator("#case")).not_to_have_attribute("data-key", before, timeout=60_000)
    return before


def until_saved(page: Page) -> None:
    """Wait until the server has received everything."""
    page.wait_for_selector(".saved:has-text('all saved')")


def logged(images: Path) -> list[dict]:
    """The content of the log."""
    log = images.with_name(f"{images.stem}.findings") / "decisions.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()]
