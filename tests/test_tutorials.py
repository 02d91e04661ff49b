"""The tutorials, block by block: runs what they tell the reader to type, on small data.

Blocks of ``bash`` and ``python`` run in order in one folder. A comment that starts with ``test``
also runs as bash: it puts drawn people in place of the reader's data set.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/tutorials/*.md"))
BLOCK = re.compile(r"^```(bash|python|text)\n(.*?)^```$|^<!-- (test)\n(.*?)^-->$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The (language, text) of each block of a page, in order."""
    return [
        (found[1] or found[3], found[2] or found[4]) for found in BLOCK.finditer(page.read_text())
    ]


def trains(page: Path) -> bool:
    return "distill init" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_tutorial_states_its_language(page: Path) -> None:
    assert len(re.findall(r"^```", page.read_text(), re.M)) == 2 * len(
        [language for language, _ in blocks(page) if language != "test"]
    )


def on_slurm(page: Path) -> bool:
    return "--executor slurm" in page.read_text()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * trains(page))
        for page in PAGES
        if not on_slurm(page)
    ],
)
def test_a_tutorial_works(page: Path, tmp_path: Path) -> None:
    work_through(page, tmp_path)


@pytest.mark.slurm
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if on_slurm(page)], ids=lambda page: page.stem
)
def test_a_tutorial_on_slurm_works(page: Path, tmp_path: Path, cluster: Cluster) -> None:
    """Uses a real Slurm with two nodes on this machine; the job has one rank on each."""
    history = next(each for each in work_through(page, tmp_path) if "succeed" in each)
    assert re.search(r"\b1 +interrupt\b", history), history
    assert re.search(r"\b2 +succeed +done\b", history), history


def work_through(page: Path, folder: Path) -> list[str]:
    """The output of each block of a page, run in order in one folder."""
    said: list[str] = []
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TESTS": str(ROOT / "tests"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        for language, text in blocks(page):
            if language == "text":
                continue
            program = [sys.executable, "-c"] if language == "python" else ["bash", "-ec"]
            done = subprocess.run(
                [*program, text], cwd=folder, env=environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout)
    finally:
        subprocess.run(["distill", "stop"], cwd=folder, env=environment, capture_output=True)
    return said
