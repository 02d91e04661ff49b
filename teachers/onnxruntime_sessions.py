"""onnxruntime sessions of untrusted graphs; their errors are in our words.

onnxruntime's exceptions have no common base class, and name places in its source code.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.printable import printable
from teachers.embedder import gpu_number

CPU_PROVIDER, GPU_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_PLACE = re.compile(r"\[ONNXRuntimeError\]( : \w+){2} : |/onnxruntime_src/.*\) ")
_OPERATOR = re.compile(
    r"(?:Non-zero status code returned while running (?P<run>\S+) node\. Name:'[^']*' Status "
    r"Message: |Node \([^)]*\) Op \((?P<load>\S+)\) )(\[\w+\] )?"
)
_OF_MEMORY = ("llocate", "bad_alloc", "would require more than")


def load_onnxruntime() -> Any:
    """The module ``onnxruntime``, without its telemetry.

    Its import writes an identifier of this machine to the user's cache and reports each use to the
    vendor, unless the environment says otherwise.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def wanted_threads() -> int:
    """The threads in ``$OMP_NUM_THREADS``, as for torch; 0 if it does not give a number.

    Of a list with a number per level of nesting, the first counts.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() and len(first) < 5 else 0


def open_session(model: Any, path: Path | str, threads: int = 0, gpu: bool = False) -> Any:
    """An ``InferenceSession``; 0 ``threads`` are all cores. With ``gpu``, on the GPU if possible.

    Raises ``UserError`` if onnxruntime cannot load the ``model`` of ``path``.
    """
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Errors arrive as exceptions.
    options.intra_op_num_threads = threads
    wanted: list[tuple[str, dict[str, int]]] = [(CPU_PROVIDER, {})]
    if gpu:
        wanted.insert(0, (GPU_PROVIDER, {"device_id": gpu_number()}))
    there = onnxruntime.get_available_providers()
    providers = [each for each in wanted if each[0] in there]
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(f"{path}: {_why_not_loaded(model, reason_of(error))}") from None


def run_session(
    session: Any,
    path: Path | str,
    outputs: Sequence[str] | None,
    inputs: Mapping[str, np.ndarray],
    what: str = "network",
) -> list[Any]:
    """The values of the named ``outputs``, or of all.

    Raises ``UserError`` if the graph of ``path``, a ``what``, fails, ``MemoryError`` if it needs
    too much memory.
    """
    try:
        return session.run(outputs, inputs)
    except MemoryError:
        raise
    except Exception as error:
        if any(each in str(error) for each in _OF_MEMORY):
            raise MemoryError from None
        raise UserError(f"{path}: the {what} does not run: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """The first line of onnxruntime's message, printable, with the operator that fails."""
    lines = _PLACE.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    text = _OPERATOR.sub(lambda found: f"operator {found['run'] or found['load']}: ", lines[0])
    return printable(text[:200])


def _why_not_loaded(model: Any, reason: str) -> str:
    onnxruntime = load_onnxruntime()
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if "IR version" in reason or f"opset {opset} " in reason.lower():
        return (
            f"written in a newer ONNX (IR {model.ir_version}, opset {opset}) than onnxruntime "
            f"{onnxruntime.__version__} reads ({reason}); pip install -U onnxruntime, or export it "
            "with opset_version=17"
        )
    return f"onnxruntime cannot load it ({reason}); check that it is a complete ONNX file"
