"""onnxruntime is imported without its telemetry, and takes as many threads as torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from teachers.onnxruntime_sessions import wanted_threads

LOAD = "from teachers.onnxruntime_sessions import load_onnxruntime; load_onnxruntime()"


def written_by(code: str, home: Path, **environment: str) -> list[Path]:
    """Files that ``code`` writes to a new home, in a process of its own.

    onnxruntime sends nothing if ``CI`` is set, and imports once.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "ORT"))}
    subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nassert 'onnxruntime' in sys.modules"],
        env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), **environment},
        check=True,
    )
    return [path for path in home.rglob("*") if path.is_file()]


def test_it_sends_no_telemetry(tmp_path: Path):
    assert written_by(LOAD, tmp_path) == []


def test_a_user_may_allow_telemetry(tmp_path: Path):
    code = f"{LOAD}; import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    written_by(code, tmp_path, ORT_DISABLE_TELEMETRY="0")


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 3), (" 4 , 2", 4), ("", 0), ("many", 0), ("-1", 0), ("9" * 9, 0)]
)
def test_threads_are_limited_as_those_of_torch(said: str, threads: int, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert wanted_threads() == threads


@pytest.mark.parametrize("package", ["curation", "distill", "teachers"])
def test_only_one_function_imports_onnxruntime(package: str):
    """``onnxruntime.transformers`` is imported after it."""
    root = Path(__file__).parents[2]
    found = [
        module.relative_to(root).as_posix()
        for module in (root / package).rglob("*.py")
        if any(
            line.split()[:2] in (["import", "onnxruntime"], ["from", "onnxruntime"])
            for line in module.read_text("utf-8").splitlines()
        )
    ]
    assert found == (["teachers/onnxruntime_sessions.py"] if package == "teachers" else [])
