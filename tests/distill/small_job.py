"""A small job on the drawn images, run in this process, and what it left."""

import json
import os
import shutil
import time

from curation.views import open_images
from curation.workspace import Workspace
from distill.pipeline.fit import check_fit
from distill.pipeline.job import JobRun
from distill.pipeline.record import RunRecord
from distill.spec_text import parse_spec

SPEC = """
name = "tiny"
[data]
train = "drawn/train"
evaluate = ["pairs", "drawn/train"]
[teacher.network]
backbone = "iresnet18"
embedding = 16
input_size = [32, 32]
width = 0.125
[teacher.stage]
epochs = 2
losses = { arcface = { scale = 16.0, margin = 0.1 } }
[teacher.train]
batch_size = 12
engine = "deepspeed"
[student]
backbone = "mobilefacenet"
input_size = [32, 32]
width = 0.125
[[stage]]
epochs = 2
losses = { arcface = { scale = 16.0, margin = 0.1 }, angular = {} }
[generations]
count = 2
[train]
batch_size = 12
log_every = 1
"""


def make_workspace(folder, drawn_store, drawn_folder):
    datasets = folder / "datasets" / "drawn"
    shutil.copytree(drawn_store.path, datasets / "train.lmdb")
    shutil.copy(drawn_folder / "pairs.bin", datasets)
    return Workspace(folder)


def run(workspace, text):
    spec = parse_spec(text, "spec")
    record = RunRecord(workspace.runs / spec.name)
    JobRun(spec, workspace, record, check_fit(spec, workspace)).run()
    return steps_of(workspace, spec.name)


def steps_of(workspace, name):
    steps = json.loads((workspace.runs / name / "steps.json").read_text())
    return {step["name"]: step["state"] for step in steps}


def open_first(workspace):
    return open_images(workspace.datasets / "drawn" / "train.lmdb").read(0)


def quiet():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
