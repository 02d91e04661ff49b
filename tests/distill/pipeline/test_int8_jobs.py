"""A job that names int8: calibrated on its training faces, judged on its sets, and resumed."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from small_job import ARCFACE, job_text, network_text, quiet, stage_text, steps_of, wait_for

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.workspace import Workspace
from distill.export.bundle_files import check_bundle

IDENTITIES, IMAGES, SIZE = 125, 4, (32, 32)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """With 500 drawn faces as ``faces/train``: each identity a pattern, each image with noise."""
    random = np.random.default_rng(1)
    patterns = random.integers(0, 256, (IDENTITIES, *SIZE, 3))
    labels = np.repeat(np.arange(IDENTITIES), IMAGES)
    noise = random.normal(0, 40, (len(labels), *SIZE, 3))
    pictures = np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)
    source = tmp_path / "source"
    source.mkdir()
    write_layout(source, zip(map(encode_jpeg, pictures), labels.tolist(), strict=True), SIZE)
    place = Workspace(tmp_path / "work")
    (place.datasets / "faces").mkdir(parents=True)
    convert(source, place.datasets / "faces" / "train.lmdb")
    return place


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_while_it_calibrates_a_job_ends_with_int8_judged(workspace, tmp_path):
    formats = '[export]\nformats = ["onnx", "onnx-int8"]\n'
    text = job_text(
        "small",
        stage_text(ARCFACE, epochs=1),
        formats,
        evaluate='["faces/train"]',
        student=network_text(embedding=64, width=0.5),
        batch=50,
    )
    spec = tmp_path / "small.toml"
    spec.write_text(text.replace("drawn/train", "faces/train"))
    command = [sys.executable, "-m", "distill.cli.main", "run", str(spec)]
    command += ["--workspace", str(workspace.root)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=quiet()) as process:
        wait_for(lambda: any(workspace.steps.rglob(".onnx-int8")), seconds=300)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert not (workspace.runs / "small" / "bundle").exists()

    subprocess.run(command, stderr=subprocess.DEVNULL, env=quiet(), check=True, timeout=600)
    assert steps_of(workspace, "small")["generation 1"] == "reused"
    bundle = (workspace.runs / "small" / "bundle").resolve()
    formats = check_bundle(bundle).config.formats
    told = json.loads((bundle / "evaluation.json").read_text())["formats"]["onnx-int8"]
    assert {each["set"] for each in told["gate"]} == {"train"}
    assert ("onnx-int8" in formats) == ("not run" not in told)
    assert len(told["sensitivity"]) > 40
    assert not list(workspace.steps.rglob("*partial*"))
