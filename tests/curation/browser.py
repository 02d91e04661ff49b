"""A real browser for tests: a minimal WebDriver (W3C) client over HTTP, without more packages."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_DRIVERS = ("chromedriver", "/usr/lib/chromium/chromedriver")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> tuple[str, str] | None:
    """The paths of a driver and its browser; None if either is missing."""
    driver = next(filter(None, map(shutil.which, _DRIVERS)), None)
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    return (driver, browser) if driver and browser else None


class Browser:
    """One window."""

    def __init__(self, address: str, session: str) -> None:
        self._place = address, session
        self._base = f"{address}/session/{session}"
        self._window: str | None = None
        """The handle of this window, if there are two"""
        self._current: list[str] = []
        """For all windows of the browser: the handle of the driver's current window"""

    @contextmanager
    def another_window(self) -> Iterator["Browser"]:
        """A second window of the same browser, closed at the end of the block."""
        first = self._request("GET", "window")
        second = self._request("POST", "window/new", {"type": "window"})["handle"]
        self._window, self._current = first, [first]
        other = Browser(*self._place)
        other._window, other._current = second, self._current
        try:
            yield other
        finally:
            other._send("DELETE", "window")
            self._send("GET", "url")
            self._window = None

    def open(self, page: Path) -> None:
        """Load a file, and wait until it is drawn: before that it takes no input."""
        self._send("POST", "url", {"url": page.resolve().as_uri()})
        self._settle()

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script and return its result."""
        return self._send("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the page, as on a phone or a desktop."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Set the user's preferred colour scheme: "light" or "dark"."""
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", {"features": wanted})

    def on_paper(self, is_printed: bool = True) -> None:
        """Emulate printing, or return to the screen."""
        self._devtools("Emulation.setEmulatedMedia", {"media": "print" if is_printed else ""})
        self._settle()

    def _settle(self) -> None:
        """Wait until the page has drawn twice, including all earlier changes."""
        twice = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        self._send("POST", "execute/async", {"script": twice, "args": []})

    def click(self, selector: str) -> None:
        """A real click in the middle of the element; an error if something covers it."""
        self._bring_to_middle(selector)
        found = self._send("POST", "element", {"using": "css selector", "value": selector})
        self._send("POST", f"element/{found[ELEMENT]}/click", {})

    def _bring_to_middle(self, selector: str) -> None:
        """Scroll until the position is stable: content drawn on the way moves it."""
        scroll = (
            "const e = document.querySelector(arguments[0]);"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "return e.getBoundingClientRect().top"
        )
        before, now = None, self.run(scroll, selector)
        while before != now:
            time.sleep(0.05)
            before, now = now, self.run(scroll, selector)

    def press(self, keys: str) -> None:
        """Real key strokes, one after the other."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        actions = {"type": "key", "id": "keyboard", "actions": strokes}
        self._send("POST", "actions", {"actions": [actions]})
        self._settle()

    def accept_dialog(self) -> None:
        """Accept the page's dialog."""
        self._send("POST", "alert/accept", {})

    def complaints(self) -> list[str]:
        """The browser's log: script errors and violations of the page's policy."""
        entries = self._send("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path: Path) -> None:
        """Save the window as PNG."""
        path.write_bytes(base64.b64decode(self._send("GET", "screenshot")))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._send("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def _send(self, method: str, path: str, content: Any = None) -> Any:
        if self._window is not None and self._current != [self._window]:
            self._request("POST", "window", {"handle": self._window})
            self._current[:] = [self._window]
        return self._request(method, path, content)

    def _request(self, method: str, path: str, content: Any = None) -> Any:
        return _request(method, f"{self._base}/{path}", content)


@contextmanager
def open_browser(driver: str, browser: str, downloads: Path) -> Iterator[Browser]:
    """A headless window that saves to ``downloads``; closed at the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Keep the browser's leftovers among the test's other files.
    environment = {**os.environ, "TMPDIR": str(downloads)}
    command = [driver, f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    address = f"http://127.0.0.1:{port}"
    session = None
    try:
        session = _start(address, browser, downloads)
        yield Browser(address, session)
    finally:
        if session is not None:
            _request("DELETE", f"{address}/session/{session}")
        process.terminate()
        process.wait(20)


def _start(address: str, browser: str, downloads: Path) -> str:
    # A container's root has no user namespaces and often a small /dev/shm; the page is our own.
    flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    options = {
        "binary": browser,
        "args": [*flags, "--hide-scrollbars", "--force-device-scale-factor=1"],
        "prefs": {"download.default_directory": str(downloads)},
    }
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    for _ in range(100):
        try:
            content = {"capabilities": {"alwaysMatch": wanted}}
            return _request("POST", f"{address}/session", content)["sessionId"]
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            time.sleep(0.1)  # the driver is not listening yet
    raise TimeoutError(f"no driver answers at {address}")


def _request(method: str, url: str, content: Any = None) -> Any:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            message = json.load(error)["value"]["message"]
        raise RuntimeError(f"{method} {url}: {message}") from None
