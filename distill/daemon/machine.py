"""This machine's resources for jobs: GPUs by UUID, cores, memory."""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_log = logging.getLogger("distill.daemon")

_LOOK_SECONDS = 30.0
_UUID = re.compile(r"^ *(?:GPU|MIG) .*\(UUID: ((?:GPU|MIG)-[0-9A-Za-z/-]{1,100})\)$", re.MULTILINE)
_Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class Gpu(BaseModel):
    """One GPU, or one MIG instance of a GPU that is partitioned."""

    model_config = ConfigDict(frozen=True, strict=True)

    number: Annotated[int, Field(ge=0, lt=1 << 20)]
    """The number in nvidia-smi, which follows the PCI bus; MIG instances in order"""
    uuid: Annotated[str, Field(min_length=1, max_length=128)]


class Machine(BaseModel):
    """The resources that jobs may be given; ``memory`` in bytes."""

    model_config = ConfigDict(frozen=True, strict=True)

    gpus: Annotated[tuple[Gpu, ...], Field(max_length=4096, strict=False)] = ()
    cores: _Count
    memory: _Count


def this_machine() -> Machine:
    """What this process may use, respecting CUDA_VISIBLE_DEVICES and CPU affinity."""
    import psutil

    return Machine(
        gpus=visible(listed_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")),
        cores=len(os.sched_getaffinity(0)),
        memory=psutil.virtual_memory().total,
    )


def listed_gpus() -> list[Gpu]:
    """The GPUs listed by nvidia-smi, in PCI bus order; none if it is not installed."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    try:
        answer = subprocess.run(
            [program, "-L"], capture_output=True, text=True, errors="replace",
            timeout=_LOOK_SECONDS, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        lines = str(getattr(error, "stdout", None) or error).strip().splitlines()
        _log.warning("no usable GPU: nvidia-smi -L: %s", lines[0][:200] if lines else error)
        return []
    return read_list(answer.stdout)


def read_list(text: str) -> list[Gpu]:
    """The GPUs in the output of ``nvidia-smi -L``; MIG instances replace their GPU."""
    found: list[str] = []
    for uuid in _UUID.findall(text):
        if uuid.startswith("MIG-") and found and found[-1].startswith("GPU-"):
            found.pop()
        found.append(uuid)
    return [Gpu(number=number, uuid=uuid) for number, uuid in enumerate(found)]


def visible(gpus: Sequence[Gpu], wanted: str | None) -> tuple[Gpu, ...]:
    """The GPUs that ``wanted``, a value of CUDA_VISIBLE_DEVICES, selects, as CUDA reads it.

    It holds numbers, or UUIDs or their prefixes; the first invalid entry ends the list. Numbers
    follow the PCI bus, as with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if wanted is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for word in wanted.split(","):
        found = [gpu for gpu in gpus if _names(word.strip(), gpu)]
        if len(found) != 1 or found[0] in chosen:
            break
        chosen += found
    return tuple(sorted(chosen, key=lambda gpu: gpu.number))


def _names(word: str, gpu: Gpu) -> bool:
    if word.isascii() and word.isdigit():
        return int(word[:9]) == gpu.number
    return word[:4] in ("GPU-", "MIG-") and gpu.uuid.startswith(word)
