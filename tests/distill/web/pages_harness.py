"""A real daemon with pages, signed-in clients, and the faults that axe-core finds in a page."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
from playwright.sync_api import Page

from curation.workspace import Workspace
from distill.daemon import client
from distill.web.address import find_pages, signed_in
from distill.web.keys import TOKEN_FILE
from tests.distill.daemon.harness import PATIENCE, SCRIPT, wait_until

AXE = Path(__file__).with_name("vendor") / "axe-4.14.1.min.js"


class Pages:
    """A workspace whose daemon serves pages; its specs contain the jobs' Python code."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self, slots: int = 1) -> None:
        log = (self.workspace.root.parent / "daemon-output.txt").open("ab")
        with log:
            self.daemon = subprocess.Popen(
                [sys.executable, SCRIPT, self.workspace.root, str(slots), "1", "local", "web"],
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: client.health(self.workspace), "the daemon answers")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(number)
            self.daemon.wait(PATIENCE)
            self.daemon = None

    @property
    def url(self) -> str:
        return find_pages(self.workspace).url

    @property
    def token(self) -> str:
        return (self.workspace.daemon / TOKEN_FILE).read_text()

    def link(self, page: str = "/") -> str:
        return signed_in(self.workspace, page)

    def http(self) -> httpx.Client:
        """A client that is not signed in."""
        return httpx.Client(base_url=self.url, timeout=30)

    def program(self) -> httpx.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, timeout=30, headers=headers)

    def submit(self, name: str, code: str = "pass", **asked: str) -> None:
        spec = f"name = '{name}'\ncode = '''\n{code}\n'''\n"
        with self.program() as http:
            answer = http.post("/api/jobs", content=spec.encode(), params=asked)
        assert answer.status_code == 200, answer.text

    def wait_for(self, name: str, state: str) -> None:
        wait_until(lambda: client.find_job(self.workspace, name).state == state, f"{name} {state}")


def axe_faults(page: Page) -> list[str]:
    """Serious and critical accessibility faults found by axe-core."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
