"""Reviewing a large set in Chromium, with the server killed in the middle.

Run: just bench-review [--images N] [--cases N] [--pictures STORE] [--think MS] [--json]. Uses
simulated embeddings and findings (``review_set``) and repeated images. The reviewers are separate
browsers that press y, n or i in turn, ``--think`` after the next case is shown. Measures the time
from the key to the frame that shows the next case with its first face; keys pressed while there was
no server are reported separately.
"""

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from long_queue import Measured, in_words
from playwright.sync_api import Page, sync_playwright
from review_set import build
from reviewers import CHROMIUM, ReviewServer, logged, press, sign_in, sit_down, until_saved

REVIEWERS = ("ada", "bob")
KEYS = "yni"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000, help="ten of each identity")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--think", type=int, default=300, help="milliseconds before each key")
    parser.add_argument("--pictures", type=Path, help="a store or view whose pictures are repeated")
    parser.add_argument("--folder", type=Path, help="a disk with 8 GB per million images")
    parser.add_argument("--keep", type=Path, help="a workspace that is kept and used again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = options.keep or Path(temporary)
        images = root / "datasets" / "large" / "train.lmdb"
        if not images.exists():
            build(
                images.parent,
                root / "cache",
                options.images,
                max(2, options.images // 10),
                options.pictures,
            )
        images.with_name("train.findings").joinpath("decisions.jsonl").unlink(missing_ok=True)
        told = []
        for line in measure(images, root, options.cases, options.think):
            told.append({**asdict(line), "met": line.met})
            if not options.json:
                sys.stdout.write(f"{in_words(line)}\n")
                sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps({"images": options.images, "measured": told}, indent=2) + "\n")


def measure(images: Path, root: Path, cases: int, think: int) -> Iterator[Measured]:
    """Yield every measurement as soon as it is available."""
    server = ReviewServer(images, root)
    began = time.monotonic()
    server.start()
    yield Measured("the server is ready", time.monotonic() - began, "s")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        contexts = sign_in(browser, server, len(REVIEWERS))
        pages = [sit_down(each, server, who) for each, who in zip(contexts, REVIEWERS, strict=True)]
        yield Measured("first paint", max(map(first_paint, pages)), "ms", 1000.0)
        decided, outage = review(pages, server, cases, think)
        for page in pages:
            until_saved(page)
        waits = [page.evaluate("window.waits") for page in pages]
        yield Measured("memory of the server (anonymous)", server.memory(), "MB")
        browser.close()
    server.end()
    everything = np.concatenate(waits)
    served = np.concatenate(
        [np.delete(own, slice(*ends)) for own, ends in zip(waits, outage, strict=True)]
    )
    yield from latency("key to next case", served, 100.0)
    yield from latency("the same, with the restart", everything)
    yield Measured("keys pressed during the restart", len(everything) - len(served), "")
    events = [event["case"] for event in logged(images)]
    yield Measured("cases decided", len(set(decided)), "", float(cases), least=True)
    yield Measured("decisions lost", len(set(decided) - set(events)), "", 0.0)
    yield Measured("decisions twice", len(events) - len(set(events)), "", 0.0)


def first_paint(page: Page) -> float:
    """Milliseconds after the page was requested."""
    return page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")


def latency(what: str, waits: np.ndarray, bar: float | None = None) -> Iterator[Measured]:
    for name, share in {"p50": 0.5, "p95": 0.95, "longest": 1.0}.items():
        bound = bar if name == "p95" else None
        yield Measured(f"{what}, {name}", float(np.quantile(waits, share)), "ms", bound)


def review(
    pages: list[Page], server: ReviewServer, cases: int, think: int
) -> tuple[list[str], list[tuple[int, int]]]:
    """The decided cases, and for each page the first and last wait of the restart."""
    decided: list[str] = []
    restart: threading.Thread | None = None
    begins, ends = [0] * len(pages), [0] * len(pages)
    while len(decided) < cases:
        if len(decided) >= cases // 2 and restart is None:
            begins = [page.evaluate("window.waits.length") for page in pages]
            server.end(signal.SIGKILL)
            restart = threading.Thread(target=server.start)
            restart.start()
        for page in pages:
            page.wait_for_timeout(think)
            case = press(page, KEYS[len(decided) % len(KEYS)])
            if case is None:
                return decided, list(zip(begins, ends, strict=True))
            decided.append(case)
        if restart is not None and not any(ends) and not restart.is_alive():
            for page in pages:
                until_saved(page)
            ends = [page.evaluate("window.waits.length") for page in pages]
    return decided, list(zip(begins, ends, strict=True))


if __name__ == "__main__":
    main()
