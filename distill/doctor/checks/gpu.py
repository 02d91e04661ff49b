"""GPUs: number, free memory, and whether torch, NCCL and FAISS can use them."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.workspace import Workspace
from distill.doctor.children import IMPORT_SECONDS, NoAnswerError, ask, ask_python
from distill.doctor.examination import Diagnosis, check, ok, warning, wrong

_MIB = 1 << 20
_ASK_SECONDS = 15.0
_LEAST_FREE = 0.5
_LEAST_SHARED = 1 << 30
"""Bytes of /dev/shm that NCCL and the loader's processes need"""
_QUERY = "--query-gpu=index,name,memory.total,memory.free,driver_version"
_LINE = re.compile(r"(\d+), (.{1,100}), (\d+|\[.{1,40}\]), (\d+|\[.{1,40}\]), ([\w.]{1,40})")
_TORCH = """
import json, torch
there = torch.cuda.is_available()
reason = ""
if not there:
    try:
        torch.cuda.init()
    except Exception as error:
        reason = str(error).splitlines()[0]
nccl = torch.distributed.is_nccl_available()
number = ".".join(map(str, torch.cuda.nccl.version())) if nccl and there else ""
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "reason": reason,
    "devices": torch.cuda.device_count() if there else 0, "nccl": nccl, "nccl_version": number}))
"""
_FAISS = """
import json, faiss
print(json.dumps([faiss.__version__, getattr(faiss, "get_num_gpus", int)()]))
"""


@dataclass(frozen=True)
class GpuMemory:
    """One GPU in nvidia-smi's output; memory in MiB, None if nvidia-smi does not tell it."""

    index: int
    name: str
    total: int | None
    free: int | None
    driver: str


@check("gpu")
def gpus(workspace: Workspace) -> Iterator[Diagnosis]:
    """The GPUs of this machine and their free memory."""
    try:
        found = _gpus()
    except NoAnswerError as error:
        yield wrong(f"nvidia-smi: {error}", "see that the driver is loaded: `nvidia-smi`")
        return
    if not found:
        yield ok("no GPU: jobs train on the CPU")
    yield from map(judge_memory, found)


@check("torch", seconds=IMPORT_SECONDS + 10)
def torch(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether torch can be imported and use the GPUs; NCCL if there are several."""
    if find_spec("torch") is None:
        found = "torch is not installed: bundles can be used here, but nothing can be trained"
        yield wrong(found, "`pip install 'face-distill[train]'`")
        return
    try:
        found = ask_python(_TORCH)
    except NoAnswerError as error:
        yield wrong(f"torch does not work: {error}", "`pip install --force-reinstall torch`")
        return
    try:
        count = len(_gpus())
    except NoAnswerError:
        return  # reported by the check of the GPUs
    yield from judge_torch(found, count)
    if count > 0:
        yield judge_shared(shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0)


@check("faiss", seconds=IMPORT_SECONDS + 10)
def faiss(workspace: Workspace) -> Iterator[Diagnosis]:
    """FAISS, which searches for neighbours, on the GPU if there is one."""
    if find_spec("faiss") is None:
        text = "FAISS is not installed: data cannot be curated here"
        yield wrong(text, "`pip install 'face-distill[curate]'`, or [gpu]")
        return
    try:
        version, usable = ask_python(_FAISS)
        count = len(_gpus())
    except NoAnswerError as error:
        yield wrong(
            f"FAISS does not work: {error}", "`pip install 'face-distill[curate]'`, or [gpu]"
        )
        return
    if count and not usable:
        then = "`pip uninstall faiss-cpu && pip install 'face-distill[gpu]'`"
        yield warning(f"FAISS {version} is built for the CPU only: neighbour search is slow", then)
    else:
        yield ok(f"FAISS {version}, on {f'{usable} GPUs' if usable else 'the CPU'}")


def read_gpus(text: str) -> list[GpuMemory]:
    """Parse the CSV output of ``nvidia-smi --query-gpu``; lines without information are skipped."""
    found = [_LINE.fullmatch(line.strip()) for line in text.splitlines()]
    return [
        GpuMemory(int(line[1]), line[2], _mebibytes(line[3]), _mebibytes(line[4]), line[5])
        for line in found
        if line
    ]


def _mebibytes(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def judge_memory(gpu: GpuMemory) -> Diagnosis:
    text = f"GPU {gpu.index}: {gpu.name}, driver {gpu.driver}"
    if gpu.free is None or gpu.total is None:
        return ok(text)
    text = f"{text}, {gpu.free:,} of {gpu.total:,} MiB free"
    if gpu.free < _LEAST_FREE * gpu.total:
        return warning(text, "another process holds the rest: `nvidia-smi` shows which")
    return ok(text)


def judge_torch(found: dict[str, Any], gpus: int) -> Iterator[Diagnosis]:
    """``found`` is torch's own report, ``gpus`` the number of GPUs in nvidia-smi."""
    built = f"CUDA {found['cuda']}" if found["cuda"] else "CPUs"
    text = f"torch {found['version']}, built for {built}"
    if gpus == 0 or found["devices"] >= gpus:
        yield ok(text)
    elif not found["cuda"]:
        yield wrong(text, "install the build with CUDA: https://pytorch.org/get-started/locally")
    elif found["devices"] == 0:
        yield wrong(
            f"{text}, cannot use the driver: {found['reason'] or 'no reason given'}",
            f"install a driver for CUDA {found['cuda']}, or a torch build for the installed driver",
        )
    else:
        yield warning(
            f"{text}, sees {found['devices']} of {gpus} GPUs",
            "CUDA_VISIBLE_DEVICES may hide the others; the daemon sets it for each job",
        )
    if gpus > 1 and not found["nccl"]:
        yield wrong("torch has no NCCL: ranks cannot exchange gradients on GPUs", "install "
                    "torch's build for CUDA on Linux")  # fmt: skip
    elif gpus > 1:
        yield ok(f"NCCL {found['nccl_version'] or 'is there'}")


def judge_shared(size: int) -> Diagnosis:
    """``size`` is that of /dev/shm, in bytes."""
    if size < _LEAST_SHARED:
        text = f"/dev/shm has {size // _MIB} MiB: too little for NCCL and the loader's processes"
        return warning(text, "give the container more: `docker run --shm-size 8g`, or --ipc=host")
    return ok(f"/dev/shm has {size / 1e9:.1f} GB")


def _gpus() -> Sequence[GpuMemory]:
    if shutil.which("nvidia-smi") is None:
        return []
    return read_gpus(ask(["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"], _ASK_SECONDS))
