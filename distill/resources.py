"""The table ``[resources]``: what a job uses of a machine or a cluster, and for how long.

Resources are not part of a step's identity, so finished steps are found after they change.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from distill.spec_errors import SpecError
from distill.training.config import Strict

_UNITS = {
    "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
_LEAST_BYTES, _MOST_BYTES = 10**7, 10**16


def size_in_bytes(text: str) -> int:
    """The number of bytes in ``"16 GB"``; ``ValueError`` if the text is not a size."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([KMGT]i?B)", text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f'{text[:40]!r} is not a size; write "16 GB" (units: {", ".join(_UNITS)})')
    size = int(float(found[1]) * _UNITS[found[2]])
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise ValueError(f'{text!r} is out of range; allowed: "10 MB" to "10000 TB"')
    return size


def in_megabytes(size: float) -> str:
    """``350 MB``; from 1 GB on, ``1.2 GB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 999.5e6 else f"{size / 1e6:,.0f} MB"


def in_gigabytes(size: float) -> str:
    """``15.8 GB``"""
    return f"{size / 1e9:.3g} GB" if size < 999.5e9 else f"{size / 1e12:.3g} TB"


def _sized(text: str) -> str:
    size_in_bytes(text)
    return text


Amount = Annotated[str, AfterValidator(_sized)]
WORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.,:@+-]{0,199}$"
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
"""A name defined by the cluster, or several with commas: safe as the value of an option."""


class Resources(Strict):
    """``gpus``, ``cpus``, ``memory`` and ``disk`` apply to each of the ``nodes``.

    Without ``gpus``, the job gets one GPU per rank if the machine has GPUs, else none. ``disk``
    must be free on the workspace's disk before the job starts. After ``hours`` the job writes a
    checkpoint and ends; ``on_time`` selects whether it is then queued again or failed. If the job
    is silent for ``stall_minutes``, its status says so (``on_stall`` say), or it restarts from its
    last checkpoint (restart).

    ``partition``, ``account``, ``qos`` and ``gres`` are for Slurm.
    """

    gpus: int | None = Field(default=None, ge=0, le=4096)
    cpus: int | None = Field(default=None, ge=1, le=4096)
    memory: Amount | None = None
    disk: Amount | None = None
    hours: float | None = Field(default=None, gt=0, le=10_000)
    on_time: Literal["requeue", "fail"] = "requeue"
    stall_minutes: float | None = Field(default=None, gt=0, le=100_000)
    on_stall: Literal["say", "restart"] = "say"
    nodes: int = Field(default=1, ge=1, le=4096)
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    gres: Word | None = None

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else size_in_bytes(self.memory)

    @property
    def disk_bytes(self) -> int | None:
        return None if self.disk is None else size_in_bytes(self.disk)

    @property
    def seconds(self) -> float | None:
        """How long the job may run."""
        return None if self.hours is None else self.hours * 3600

    @property
    def ranks(self) -> int | None:
        """One rank per GPU of all nodes; ``None`` if no GPU is requested."""
        return self.gpus * self.nodes if self.gpus else None

    @model_validator(mode="after")
    def _check_combinations(self) -> "Resources":
        for choice, needed in (("on_time", "hours"), ("on_stall", "stall_minutes")):
            if choice in self.model_fields_set and getattr(self, needed) is None:
                raise SpecError((choice,), f"needs {needed}; leave it out")
        return self


UNSPECIFIED = Resources()
