"""`distill latency`: measures every format in its own process and saves the table in the bundle."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distill.cli.main import app
from distill.export.bundle_files import check_bundle
from distill.export.checksums import write_sums


@pytest.fixture
def bundle(small_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def run(*arguments: str):
    return CliRunner().invoke(app, ["latency", *arguments])


def test_every_runtime_has_a_row_and_the_bundle_keeps_them(bundle, monkeypatch):
    monkeypatch.setattr("distill.export.latency.LONGEST", 250)
    result = run(str(bundle), "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["latencies"]
    assert [row["runtime"] for row in rows] == ["torch", "onnx"]
    for row in rows:
        assert 0 < row["p50"] <= row["p95"]
        assert min(row["load_seconds"], row["bytes"], row["memory_bytes"]) > 0
    check_bundle(bundle)
    kept = json.loads((bundle / "evaluation.json").read_text())["latency"]
    assert kept["rows"] == rows
    assert kept["machine"]


def test_a_card_without_a_job_is_titled_after_its_folder(bundle, monkeypatch):
    monkeypatch.setattr("distill.export.latency.LONGEST", 250)
    (bundle / "lineage.json").write_text("{}")
    write_sums(bundle)
    assert run(str(bundle)).exit_code == 0
    assert "\n# bundle\n" in (bundle / "README.md").read_text()


@pytest.mark.parametrize("threads", ["0", "", "1,", "-1", "1.5", "9999", "¹"])
def test_invalid_thread_counts_are_refused(bundle, threads):
    assert "give counts from 1 to 256" in str(run(str(bundle), f"--threads={threads}").exception)
