"""A review in a process of its own, and a reviewer who looks at it in a browser."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from planted_findings import checked_store
from playwright.sync_api import Browser, BrowserContext, Page
from reviewers import ReviewServer, sign_in, sit_down


@pytest.fixture
def images(drawn_folder: Path, tmp_path: Path) -> Path:
    """A store with a finding of each check. Files of tests replace it by another one."""
    return checked_store(drawn_folder, tmp_path).path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], ReviewServer]]:
    """Starts servers that end with the test, even if it fails."""
    with ExitStack() as stack:

        def start(images: Path) -> ReviewServer:
            made = ReviewServer(images, tmp_path / "workspace")
            stack.callback(made.close)
            made.start()
            return made

        yield start


@pytest.fixture
def server(images: Path, serve) -> Iterator[ReviewServer]:
    made = serve(images)
    yield made
    assert made.end() == 0


@pytest.fixture
def context(server: ReviewServer, chromium: Browser) -> Iterator[BrowserContext]:
    (made,) = sign_in(chromium, server)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, server: ReviewServer) -> Page:
    return sit_down(context, server, "ada")
