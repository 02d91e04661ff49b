"""Speed of every student on one CPU thread: a training step in both memory layouts, and inference.

Run: just bench-backbones [NAME...]. The layouts alternate; each figure is the fastest of its runs.
Prints one line of JSON per network on standard output.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from distill.backbones import NETWORKS, create, lookup
from distill.training.memory import keep_freed_memory
from teachers.folding import fold

TRAIN_BATCH, TRAIN_ROUNDS, INFERENCE_ROUNDS = 64, 2, 15
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def measure(name: str) -> dict[str, object]:
    """Milliseconds per image: training steps of batch 64, inference of batch 1."""
    network, size = create(name), lookup(name).input_size
    times: dict[str, float] = {}
    for _ in range(TRAIN_ROUNDS):
        for layout, memory_format in LAYOUTS.items():
            step = _training_step(network.to(memory_format=memory_format), size, memory_format)
            elapsed = _seconds(step) * 1000 / TRAIN_BATCH
            times[f"train {layout}"] = min(times.get(f"train {layout}", elapsed), elapsed)
    network.eval().to(memory_format=torch.channels_last)
    image = torch.randn(1, 3, *size).contiguous(memory_format=torch.channels_last)
    variants = {"unfolded": network, "folded": fold(network)}
    with torch.inference_mode():
        for _ in range(INFERENCE_ROUNDS):
            for variant, module in variants.items():
                elapsed = _seconds(lambda module=module: module(image)) * 1000
                times[variant] = min(times.get(variant, elapsed), elapsed)
    return {"name": name, **{key: round(value, 2) for key, value in times.items()}}


def _training_step(
    network: nn.Module, size: tuple[int, int], memory_format: torch.memory_format
) -> Callable[[], None]:
    images = torch.randn(TRAIN_BATCH, 3, *size).contiguous(memory_format=memory_format)
    optimiser = torch.optim.SGD(network.train().parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        network(images).square().mean().backward()
        optimiser.step()

    step()
    return step


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main(names: list[str]) -> None:
    """Measure the given networks, or every student."""
    torch.set_num_threads(1)
    keep_freed_memory()
    students = [name for name, entry in NETWORKS.items() if not entry.family.startswith("iresnet")]
    for name in names or students:
        torch.manual_seed(0)
        sys.stdout.write(json.dumps(measure(name)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
