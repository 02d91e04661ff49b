"""A catalogue of every network: our counts, the figures printed in papers, and measured latency.

Counting all networks takes half a minute, so the results of `describe` are stored in catalogue.json
together with the names of the files of `distill.backbones`. `just backbones-page` regenerates it,
and a test compares it with the networks. Networks in newer files are counted on demand.
"""

import json
import pkgutil
import time
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distill.timm_names import check_timm, is_timm

if TYPE_CHECKING:
    from distill.counting import Counts
    from teachers.networks import Paper

CATALOGUE = Path(__file__).with_name("catalogue.json")
STRIDE, LEAST_SIDE, USUAL_WIDTHS = 16, 32, (0.125, 8.0)
"""Every network of the catalogue supports inputs whose sides are multiples of this stride and at
least this long, and any width in this range; a test builds them all."""
WARM_UP, LEAST_RUNS, LEAST_SECONDS = 3, 10, 0.5


def catalogue() -> list[dict[str, Any]]:
    """The description of every registered network; only new networks are built for it."""
    kept = _kept()
    if backbone_files() == kept["files"]:
        return kept["networks"]
    from distill.backbones import NETWORKS

    newcomers = [describe(name) for name in NETWORKS if name not in _rows()]
    return [*kept["networks"], *newcomers]


def write_catalogue() -> list[dict[str, Any]]:
    """Count every network and store the descriptions: students first, then teachers."""
    from distill.backbones import NETWORKS

    teachers_last = sorted(NETWORKS, key=lambda name: NETWORKS[name].family.startswith("iresnet"))
    rows = [describe(name) for name in teachers_last]
    kept = {"files": backbone_files(), "networks": rows}
    CATALOGUE.write_text(json.dumps(kept, indent=1) + "\n")
    return rows


def backbone_files() -> list[str]:
    """The names of the files in `distill.backbones`, without importing it, and torch with it."""
    package = find_spec("distill.backbones")
    assert package is not None
    return sorted(
        module.name for module in pkgutil.iter_modules(package.submodule_search_locations)
    )


def _kept() -> dict[str, Any]:
    return json.loads(CATALOGUE.read_text())


class Defaults(NamedTuple):
    """The values of a network that a spec does not set."""

    embedding: int
    input_size: tuple[int, int]


TIMM_DEFAULTS = Defaults(512, (112, 112))


def defaults_of(name: str) -> Defaults:
    """The defaults of a registered network or a member of a family; ``UserError`` if unknown.

    Imports torch only for a name that is in neither the catalogue nor timm's list.
    """
    if is_timm(name):
        check_timm(name)
        return TIMM_DEFAULTS
    if (row := _rows().get(name)) is not None:
        height, width = row["input_size"]
        return Defaults(row["embedding"], (height, width))
    from distill.backbones import lookup

    entry = lookup(name)
    return Defaults(entry.embedding, entry.input_size)


def is_known(name: str, input_size: tuple[int, int], width: float) -> bool:
    """Whether the network is known to be buildable with these values, without building it."""
    fits = all(side >= LEAST_SIDE and side % STRIDE == 0 for side in input_size)
    return name in _rows() and fits and USUAL_WIDTHS[0] <= width <= USUAL_WIDTHS[1]


def counted(
    name: str, embedding: int, input_size: tuple[int, int], width: float
) -> Mapping[str, float]:
    """The counts of a network by their names in the catalogue, which is used for defaults."""
    if name in _rows() and (*defaults_of(name), 1.0) == (embedding, input_size, width):
        return _rows()[name]
    from distill.counting import count_network

    counts = count_network(name, embedding, input_size, width)
    return {"madds": counts.madds, "lfr_flops": counts.lfr_flops, "size_mib": counts.size_mib}


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in _kept()["networks"]}


def describe(name: str) -> dict[str, Any]:
    """One network at its defaults: exact counts; ``size_mib`` in MiB of float32."""
    from distill.backbones import lookup
    from distill.counting import count_network

    entry = lookup(name)
    counts = count_network(name)
    return {
        "name": name,
        "family": entry.family,
        "params": counts.params,
        "madds": counts.madds,
        "lfr_flops": counts.lfr_flops,
        "size_mib": counts.size_mib,
        "embedding": entry.embedding,
        "input_size": list(entry.input_size),
        "paper": None if entry.paper is None else _beside(entry.paper, counts),
        "status": entry.status,
    }


def _beside(paper: "Paper", counts: "Counts") -> dict[str, Any]:
    """The printed figures; ``difference`` is our count divided by theirs, minus one."""
    figures = {
        quantity: {
            "printed": figure.printed,
            "value": figure.value,
            "difference": getattr(counts, quantity) / figure.value - 1,
            "reproducible": figure.within is not None,
        }
        for quantity, figure in paper.figures.items()
    }
    return {"source": paper.source, "figures": figures, "note": paper.note}


def measure_latency(name: str) -> float:
    """Milliseconds for one image on one CPU thread, the fastest of at least ten runs.

    Normalisation is folded, weights are random, the memory layout is channels_last.
    """
    import torch

    from distill.backbones import create, lookup
    from teachers.folding import fold

    entry = lookup(name)
    network = fold(create(name)).to(memory_format=torch.channels_last)
    image = torch.randn(1, 3, *entry.input_size).contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(WARM_UP):
                network(image)
            times: list[float] = []
            while len(times) < LEAST_RUNS or sum(times) < LEAST_SECONDS:
                started = time.perf_counter()
                network(image)
                times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times)
