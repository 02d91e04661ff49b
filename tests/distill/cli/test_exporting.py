"""`distill export`: adds formats to a bundle, which stays valid throughout."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.files import exchange
from distill.cli.main import app
from distill.export.bundle_files import check_bundle
from distill.export.exporter import exporters

NCNN = exporters()["ncnn"]
needs_ncnn = pytest.mark.skipif(
    NCNN.lacks((*NCNN.writes_with, *NCNN.runs_with)) is not None, reason="ncnn is not installed"
)


@pytest.fixture
def bundle(small_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def run(*arguments: str):
    return CliRunner().invoke(app, ["export", *arguments])


@needs_ncnn
def test_a_bundle_gets_formats_once(bundle):
    result = run(str(bundle), "--to", "ncnn,onnx", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["added"] == ["ncnn"]
    assert told["files"] == check_bundle(bundle).config.model_dump(mode="json")["formats"]
    assert set(check_bundle(bundle).config.formats) == {"onnx", "ncnn"}
    assert "ncnn" in (bundle / "README.md").read_text()
    before = (bundle / "SHA256SUMS").stat().st_mtime_ns
    assert json.loads(run(str(bundle), "--to", "ncnn", "--json").stdout)["added"] == []
    assert (bundle / "SHA256SUMS").stat().st_mtime_ns == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def message_of(result) -> str:
    return str(result.exception)


@pytest.mark.parametrize(
    ("formats", "told"),
    [
        ("ncn", "did you mean 'ncnn'"),
        ("", "no such format; there are"),
        ("onnx,onnx", "named twice"),
    ],
)
def test_unknown_formats_are_refused(bundle, formats, told):
    assert told in message_of(run(str(bundle), "--to", formats))


def test_a_bundle_of_a_job_does_not_change(bundle):
    (bundle.parent / "inputs.json").write_text("{}")
    assert "distill pull" in message_of(run(str(bundle), "--to", "onnx-fp16"))


def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path):
    assert "not a bundle" in message_of(run(str(tmp_path), "--to", "onnx-fp16"))


def test_a_killed_export_leaves_the_bundle_whole(bundle):
    command = [sys.executable, "-m", "distill", "export", str(bundle), "--to", "onnx-fp16"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    partial = bundle.with_name(".bundle.partial")
    while not partial.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert set(check_bundle(bundle).config.formats) == {"onnx"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert set(check_bundle(bundle).config.formats) == {"onnx", "onnx-fp16"}
    assert not partial.exists()


def test_two_folders_are_swapped_atomically(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if exchange(tmp_path / "one", tmp_path / "other"):
        assert (tmp_path / "one" / "other").exists()
        assert (tmp_path / "other" / "one").exists()
    assert not exchange(tmp_path / "one", tmp_path / "none")
