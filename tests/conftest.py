"""Small real data for all tests: drawn images, a real store, a tiny embedding network."""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.pairs import write_pairs
from curation.records.layout_writer import write_layout
from curation.store import Store
from tests.slurm.cluster import Cluster, running_cluster

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the commands do, before torch is imported

# Rich and Typer read these: with FORCE_COLOR and TERM=dumb, they wrap messages at 80 characters.
OF_TERMINALS = ("COLUMNS", "LINES", "TERMINAL_WIDTH", "FORCE_COLOR", "NO_COLOR", "PY_COLORS")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs (except for `just test-gpu`) and the terminal: tests must not depend on them.

    Hypothesis has no deadline: a slow machine is not a defect.
    """
    for name in (*OF_TERMINALS, "GITHUB_ACTIONS"):
        os.environ.pop(name, None)
    os.environ["TERM"] = "xterm"
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if os.environ.get("PYTEST_XDIST_WORKER"):  # the workers share the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser. Without Chromium, a CI fails; elsewhere the tests are skipped.

    It ends with its file of tests: while Playwright runs, asyncio cannot, and memory is measured
    with that of all child processes.
    """
    from playwright.sync_api import expect, sync_playwright

    found = shutil.which("chromium")
    if found is None and "CI" not in os.environ:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    expect.set_options(timeout=60_000)  # a loaded machine is slow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the output of a failed command, and makes reports valid text.

    Tests may print any bytes, but xdist sends reports as text.
    """
    report = yield
    if call.excinfo and isinstance(call.excinfo.value, subprocess.CalledProcessError):
        report.sections += _printed(call.excinfo.value)
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def _printed(failed: subprocess.CalledProcessError) -> list[tuple[str, str]]:
    """The captured output of a command, which the message of its exception leaves out."""
    outputs = {"stdout": failed.stdout, "stderr": failed.stderr}
    return [
        (f"{name} of the command", os.fsdecode(output))
        for name, output in outputs.items()
        if output
    ]


IDENTITIES = 6
IMAGES_EACH = 8
SIZE = 48


def draw(identity: int, image: int) -> np.ndarray:
    """An image with the identity's colours and stripes, and noise that differs per image."""
    random = np.random.default_rng([identity, image])
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    waves = np.sin(columns / (2 + identity) + rows / (9 - identity))
    tint = np.random.default_rng(identity).uniform(60, 190, 3)
    picture = tint + 40 * waves[..., None] + random.normal(0, 12, (SIZE, SIZE, 3))
    return picture.clip(0, 255).astype(np.uint8)


def write_drawn_dataset(folder: Path) -> Path:
    """The drawn images in the insightface layout, with a verification set of other identities."""
    faces = [
        (encode_jpeg(draw(identity, image)), identity)
        for identity in range(IDENTITIES)
        for image in range(IMAGES_EACH)
    ]
    write_layout(folder, faces, (SIZE, SIZE))
    same = [index % 2 == 0 for index in range(40)]
    images = []
    for index, is_same in enumerate(same):
        images.append(encode_jpeg(draw(10 + index % 4, index)))
        images.append(encode_jpeg(draw(10 + (index + (not is_same)) % 4, 100 + index)))
    write_pairs(folder / "pairs.bin", images, same)
    return folder


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.rec, train.idx, property and pairs.bin."""
    return write_drawn_dataset(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def drawn_store(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The drawn images as a store."""
    return convert(drawn_folder, tmp_path_factory.mktemp("stores") / "drawn.lmdb")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Slurm with two nodes, for tests with the marker `slurm`."""
    with running_cluster() as cluster:
        yield cluster
