"""A job's memory: each step's peak is recorded, and memory is released after the step."""

import json
import mmap
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_job import job_text, make_workspace, network_text, stage_text

from distill.pipeline.peak_memory import INTERVAL, PeakMemory

MIB = 1 << 20

SPEC = job_text(
    "wide", stage_text(epochs=2), student=network_text(size=(48, 48), width=1.0), batch=48
)
JOB = """
import json, sys
from pathlib import Path
import psutil
from curation.workspace import Workspace
from distill.pipeline.job import JobRun
from distill.pipeline.fit import check_fit
from distill.pipeline.record import RunRecord
from distill.spec_text import parse_spec

held = {}

def look(event):
    if event.kind == "begin":
        memory = psutil.Process().memory_info()
        held[event.step] = memory.rss - memory.shared
    if event.step == "export":  # which takes seconds
        print(json.dumps(held))
        raise SystemExit

place = Workspace(Path(sys.argv[1]))
record = RunRecord(place.runs / "wide", look)
spec = parse_spec(sys.stdin.read(), "spec")
JobRun(spec, place, record, check_fit(spec, place)).run()
"""
GIVES_BACK = """
import psutil, torch
from distill.training.memory import give_back_memory, keep_freed_memory

def private():
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) >> 20

keep_freed_memory()
before = private()
# What is in use on top keeps a heap from shrinking by itself.
blocks = [torch.ones(1 << 20) for _ in range(64)]
last = blocks.pop()
del blocks
kept = private()
give_back_memory()
print(before, kept, private())
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn_store, drawn_folder):
    """By step, the memory of the job's process at its start, and its line of steps.json."""
    root = tmp_path_factory.mktemp("work")
    make_workspace(root, drawn_store, drawn_folder)
    told = python(JOB, str(root), given=SPEC)
    steps = json.loads((root / "runs" / "wide" / "steps.json").read_text())
    return json.loads(told), {step["name"]: step for step in steps}


def python(code: str, *arguments: str, given: str = "") -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout


def test_every_step_reports_its_peak_memory(finished):
    held, steps = finished
    for name in ("generation 1", "evaluate"):
        assert steps[name]["peak_memory_bytes"] >= held[name] - 8 * MIB
        assert steps[name]["peak_gpu_memory_bytes"] is None


def test_memory_of_a_training_is_freed_before_the_next_step(finished):
    held, steps = finished
    grew = steps["generation 1"]["peak_memory_bytes"] - held["generation 1"]
    assert grew > 250 * MIB  # 48 images of 48x48 through MobileFaceNet, forward and backward
    assert held["evaluate"] < steps["generation 1"]["peak_memory_bytes"] - 0.5 * grew


def test_freed_memory_stays_until_it_is_given_back():
    before, kept, after = map(int, python(GIVES_BACK).split())
    assert kept - before > 200
    assert after - before < 60


def test_the_peak_is_that_of_all_processes_together():
    hold = "import time; held = bytearray(200 << 20); print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with PeakMemory() as alone:
            pass
        with PeakMemory() as peak:
            ours = np.ones(100 * MIB, np.uint8)
            time.sleep(5 * INTERVAL)
            del ours
        child.kill()
    assert alone.bytes < private() + 100 * MIB
    assert peak.bytes > alone.bytes + 250 * MIB


def test_pages_of_a_mapped_file_are_not_counted(tmp_path: Path):
    path = tmp_path / "store"
    path.write_bytes(bytes(200 * MIB))
    with path.open("rb") as file, PeakMemory() as peak:
        before = psutil.Process().memory_info().rss
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert sum(mapped[:: mmap.PAGESIZE]) == 0
            assert psutil.Process().memory_info().rss - before > 150 * MIB
            time.sleep(3 * INTERVAL)
    assert peak.bytes < private() + 100 * MIB


def private() -> int:
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared
