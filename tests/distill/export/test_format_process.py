"""Damaged or malicious files of other runtimes end in a clear error, whatever the library does."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from distill.export.format_process import FormatProcess

PIXELS = np.zeros((1, 3, 8, 8), np.float32)
NOT_A_NETWORK = '<?xml version="1.0"?><net name="x" version="11"><layers/><edges/></net>'
NESTED = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
LAUGHS = f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY e0 "ha">{NESTED}]><net name="&e11;"/>'
HUGE = "7767517\n2000000000 2000000000\nInput in0 0 1 in0\n"
TILED = "7767517\n2 2\nInput in0 0 1 in0\nTile t 1 1 in0 out0 0=1 1=200000000\n"


@pytest.mark.parametrize(
    ("name", "graph", "words"),
    [
        ("openvino", "nonsense", "its openvino files cannot be run .* update what runs openvino"),
        ("openvino", NOT_A_NETWORK, "its openvino files cannot be run .Incorrect|must be called"),
        ("openvino", LAUGHS, "its openvino files cannot be run"),
        ("ncnn", "nonsense", "ncnn cannot load model.ncnn.param"),
        ("ncnn", HUGE, "ncnn cannot load model.ncnn.param"),
        ("ncnn", TILED, "ncnn cannot run model.ncnn.param"),
    ],
    ids=["openvino-text", "openvino-empty", "laughs", "ncnn-text", "ncnn-counts", "ncnn-tile"],
)
def test_files_that_cannot_be_run_are_refused(tmp_path: Path, name: str, graph: str, words: str):
    pytest.importorskip(name)
    names = {"openvino": ("model.xml", "model.bin"), "ncnn": ("model.ncnn.param", "model.ncnn.bin")}
    graph_name, weights_name = names[name]
    (tmp_path / graph_name).write_text(graph)
    (tmp_path / weights_name).write_bytes(bytes(64))
    with pytest.raises(UserError) as caught:
        FormatProcess(name, tmp_path)(PIXELS)
    assert re.search(words, str(caught.value))
    assert len(str(caught.value).splitlines()) == 1


def test_openvino_sends_no_telemetry(tmp_path: Path):
    """In a process of its own: OpenVINO may be imported in this one."""
    pytest.importorskip("openvino")
    code = f"""
import sys, threading
from pathlib import Path
from distill.export.exporter import exporters
exporters()["openvino"].run(Path({str(tmp_path)!r}))
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
