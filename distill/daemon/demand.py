"""The resources that a job needs, according to its spec."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from curation.errors import UserError
from curation.toml_text import read_toml
from distill.daemon.machine import Machine
from distill.resources import UNSPECIFIED, Resources, in_gigabytes
from distill.spec_source import UNNAMED_SPEC

DEMAND_COLUMNS = ("gpus", "ranks", "cpus", "memory", "disk", "nodes")


@dataclass(frozen=True, kw_only=True)
class Demand:
    """``gpus`` and ``ranks`` are ``None``, and sizes and ``cpus`` 0, if the spec does not say."""

    gpus: int | None = None
    ranks: int | None = None
    """The ranks of its trainings"""
    cpus: int = 0
    memory: int = 0
    """Bytes"""
    disk: int = 0
    """Bytes that must be free before it starts"""
    nodes: int = 1

    @property
    def fits_anywhere(self) -> bool:
        """Whether it fits on any machine."""
        return not (self.gpus or self.cpus or self.memory) and self.nodes == 1

    def gpus_on(self, machine: Machine) -> int:
        """The number of GPUs there: as specified, else one per rank, else all."""
        if self.gpus is not None:
            return self.gpus
        there = len(machine.gpus)
        return there if self.ranks is None else min(self.ranks, there)


def demand_of(spec: str) -> Demand:
    """The demand of the job with this spec; empty for an invalid spec."""
    document, resources = _document(spec), resources_in(spec)
    trainings = (document.get("train"), _table(document.get("teacher")).get("train"))
    ranks = [_table(training).get("ranks") for training in trainings]
    valid = [each for each in ranks if isinstance(each, int) and 0 < each <= 4096]
    return Demand(
        gpus=resources.gpus,
        ranks=max(valid, default=None),
        cpus=resources.cpus or 0,
        memory=resources.memory_bytes or 0,
        disk=resources.disk_bytes or 0,
        nodes=resources.nodes,
    )


def resources_in(spec: str) -> Resources:
    """The resources stated in a spec; empty if it is invalid."""
    try:
        return Resources.model_validate(_document(spec).get("resources", {}))
    except ValidationError:
        return UNSPECIFIED


def _document(spec: str) -> dict[str, Any]:
    try:
        return read_toml(spec, UNNAMED_SPEC)
    except UserError:
        return {}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def excess(demand: Demand, machine: Machine) -> str | None:
    """Why the job can never run on the machine, with numbers; ``None`` if it can."""
    if demand.nodes > 1:
        return f"{demand.nodes} nodes, which needs a cluster: `distill serve --executor slurm`"
    if (gpus := demand.gpus_on(machine)) > len(machine.gpus):
        return f"{in_gpus(gpus)}, and this machine has {len(machine.gpus) or 'none'}"
    if demand.cpus > machine.cores:
        return f"{demand.cpus} cores, and this machine has {machine.cores}"
    if demand.memory > machine.memory:
        has = in_gigabytes(machine.memory)
        return f"{in_gigabytes(demand.memory)} of memory, and this machine has {has}"
    return None


def in_gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
