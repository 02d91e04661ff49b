"""The site built by `just docs`: all links have targets, and the search works offline."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, expect

ROOT = Path(__file__).parents[1]
PATIENCE = 120_000
"""Milliseconds; a loaded machine renders pages slowly"""


class Links(HTMLParser):
    """The link targets of a page, and the addresses that it links to or loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value is not None}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        is_loaded = tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload")
        self.loaded += [found[name] for name in ("src",) if name in found]
        self.loaded += [found["href"]] if is_loaded else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by Zensical in a separate folder."""
    pytest.importorskip("zensical", reason="pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    program = Path(sys.executable).with_name("zensical")
    built = subprocess.run(
        [program, "build", "--clean"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}


def leads_nowhere(page: Path, link: str, pages: dict[Path, Links]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return True
    return bool(parts.fragment) and unquote(parts.fragment) not in pages[target].ids


def test_every_page_of_the_docs_is_built(pages: dict[Path, Links]) -> None:
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md")))


def test_every_link_of_the_site_leads_somewhere(pages: dict[Path, Links]) -> None:
    dead = [
        f"{page.name}: {link}"
        for page, found in pages.items()
        for link in [*found.links, *found.loaded]
        if leads_nowhere(page, link, pages)
    ]
    assert dead == []


def test_the_site_loads_nothing_from_elsewhere(pages: dict[Path, Links]) -> None:
    assert [
        each for found in pages.values() for each in found.loaded if urlsplit(each).netloc
    ] == []


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_search_works_without_a_network(address: str, chromium: Browser) -> None:
    """Types like a reader; the first result is a section of a page and can be opened."""
    asked: list[str] = []
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/index.html")
        page.locator(".md-search__button").click()
        page.keyboard.type("Partial FC", delay=50)
        first = page.locator("a", has_text=re.compile("Partial FC")).first
        expect(first).to_be_visible(timeout=PATIENCE)
        first.click()
        page.wait_for_url(re.compile(r"/\w+\.html"))
        assert "Partial FC" in page.locator("article").inner_text()
    local = (address, "blob:", "data:")
    assert [url for url in asked if not url.startswith(local)] == []


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_theme_and_its_charts_follow_the_readers_system(
    address: str, chromium: Browser, scheme: Literal["light", "dark"], is_dark: bool
) -> None:
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/index.html")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.goto(f"{address}/backbones.html")
        chart = page.evaluate("getComputedStyle(document.querySelector('img[src$=svg]')).filter")
    assert (sum(map(float, re.findall(r"[\d.]+", colour)[:3])) < 200) is is_dark, colour
    assert chart.startswith("invert") is is_dark
