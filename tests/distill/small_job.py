"""A small job on the drawn images, run in this process, and its results."""

import json
import os
import shutil
import time
from contextlib import suppress

from curation.views import open_images
from curation.workspace import Workspace
from distill.pipeline.fit import check_fit
from distill.pipeline.job import JobRun
from distill.pipeline.record import RunRecord
from distill.signals import Stopped
from distill.spec_checks import check_names
from distill.spec_text import SpecFile, parse_spec

ARCFACE = "arcface = { scale = 16.0, margin = 0.1 }"


def network_text(backbone="mobilefacenet", embedding=16, size=(32, 32), width=0.125):
    """The table of a network that trains in seconds."""
    known = f'backbone = "{backbone}", input_size = {list(size)}, width = {width}'
    return f"{{ {known}, embedding = {embedding} }}"


def stage_text(losses=ARCFACE, epochs=1, more=""):
    return f"[[stage]]\nepochs = {epochs}\nlosses = {{ {losses} }}\n{more}\n"


def teacher_text(backbone="iresnet18", epochs=1, train="log_every = 100"):
    """The table of a teacher that is trained in the job."""
    return (
        f"[teacher]\nnetwork = {network_text(backbone)}\n"
        f"stage = {{ epochs = {epochs}, losses = {{ {ARCFACE} }} }}\n"
        f"train = {{ batch_size = 12, {train} }}\n"
    )


def job_text(name, *tables, evaluate='["pairs"]', student=None, batch=12, train="log_every = 1"):
    """The spec of a job on the drawn images; ``tables`` are its stages and other tables."""
    lines = [
        f'name = "{name}"',
        f'data = {{ train = "drawn/train", evaluate = {evaluate} }}',
        f"student = {student or network_text()}",
        f"train = {{ batch_size = {batch}, {train} }}",
    ]
    return "\n".join([*lines, *tables])


TEACHER = teacher_text(epochs=2, train='engine = "deepspeed"')


def whole_job_text(name="tiny", *tables, teacher=TEACHER):
    """A job with every kind of step: a teacher and two generations that learn from it."""
    learn = stage_text(f"{ARCFACE}, angular = {{}}", epochs=2)
    generations = "[generations]\ncount = 2\n"
    sets = '["pairs", "drawn/train"]'
    return job_text(name, teacher, learn, generations, *tables, evaluate=sets)


def make_workspace(folder, drawn_store, drawn_folder):
    """With the drawn images as ``drawn/train`` and pairs of them as ``pairs``."""
    datasets = folder / "datasets" / "drawn"
    shutil.copytree(drawn_store.path, datasets / "train.lmdb")
    shutil.copy(drawn_folder / "pairs.bin", datasets)
    return Workspace(folder)


def checked_job(text, workspace):
    """The job of a spec whose names exist in the workspace."""
    spec = SpecFile.parse(text)
    with spec.placed():
        check_names(spec.job, workspace)
    return spec.job


def run_job(workspace, text, until=None):
    """The steps of the job, done in this process; stopped in the step ``until``, or after it if
    it was already done."""
    spec = parse_spec(text, "spec")
    begun = set()
    record = RunRecord(
        workspace.runs / spec.name, lambda event: begun.add(event.step), lambda: until in begun
    )
    with suppress(Stopped):
        JobRun(spec, workspace, record, check_fit(spec, workspace)).run()
    return steps_of(workspace, spec.name)


def steps_of(workspace, name):
    """The state of each step."""
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
