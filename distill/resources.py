"""What a job takes of a machine or a cluster, and for how long: the table ``[resources]``.

Nothing of it is part of what a step makes: with other resources the same finished steps are found.
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
    """How many bytes ``"16 GB"`` is; ``ValueError`` where the text is no such size."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([KMGT]i?B)", text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f'{text[:40]!r} is not a size; write "16 GB" (units: {", ".join(_UNITS)})')
    size = int(float(found[1]) * _UNITS[found[2]])
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise ValueError(f'{text!r} is out of range; allowed: "10 MB" to "10000 TB"')
    return size


def in_gigabytes(size: float) -> str:
    """``15.8 GB``"""
    return f"{size / 1e9:.3g} GB" if size < 999.5e9 else f"{size / 1e12:.3g} TB"


def _sized(text: str) -> str:
    size_in_bytes(text)
    return text


Amount = Annotated[str, AfterValidator(_sized)]
WORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.,:@+-]{0,199}$"
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
"""A name of the cluster's, or several with commas: safe as the value of an option."""


class Resources(Strict):
    """``gpus``, ``cpus``, ``memory`` and ``disk`` are those of each of the ``nodes``.

    ``gpus`` left out are as many as the training has ranks where the machine has GPUs, else none.
    ``disk`` is what has to be free where the workspace lies, before the start. After ``hours`` the
    job writes a checkpoint and ends; ``on_time`` says whether it is queued again then, or failed.
    Where nothing is heard of the job for ``stall_minutes``, its status says so (``on_stall`` say),
    or it is started again from its last checkpoint (restart).

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
        """One for each GPU of all nodes; ``None`` where no GPU is asked for."""
        return self.gpus * self.nodes if self.gpus else None

    @model_validator(mode="after")
    def _goes_together(self) -> "Resources":
        for choice, needed in (("on_time", "hours"), ("on_stall", "stall_minutes")):
            if choice in self.model_fields_set and getattr(self, needed) is None:
                raise SpecError((choice,), f"needs {needed}; leave it out")
        return self


UNSAID = Resources()
