"""What is known of every network: our counts, the figures printed in the papers, the speed here.

Counting them all takes half a minute, so what `describe` says of each is kept in catalogue.json;
`just backbones-page` writes it anew, and a test compares it with the networks.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.counting import Counts
    from teachers.networks import Paper

CATALOGUE = Path(__file__).with_name("catalogue.json")
WARM_UP, LEAST_RUNS, LEAST_SECONDS = 3, 10, 0.5


def catalogue() -> list[dict[str, Any]]:
    """What `describe` says of every registered network, without building any."""
    return json.loads(CATALOGUE.read_text())


def describe(name: str) -> dict[str, Any]:
    """One network with its defaults: raw numbers, ``size_mib`` in MiB of float32."""
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
    """The printed figures; ``difference`` is ours over theirs, less one."""
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
    """Milliseconds for one image on one CPU thread, the fastest of ten runs or more.

    Normalisation is folded, the weights are random, the memory layout is channels_last.
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
