"""Real MXNet, in the environment that `just test-mxnet` creates."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("speak_mxnet.py")

Mxnet = Callable[..., Any]


@pytest.fixture(scope="session")
def mxnet() -> Mxnet:
    """Calls a task of speak_mxnet.py: ``mxnet("read", records=..., index=...)``."""
    python = os.environ.get("MXNET_PYTHON")
    if not python:
        pytest.skip("MXNET_PYTHON names no interpreter with MXNet; run `just test-mxnet`")

    def ask(task: str, **arguments: Any) -> Any:
        finished = subprocess.run(
            [python, str(SCRIPT), task],
            input=json.dumps(arguments, default=str),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return ask
