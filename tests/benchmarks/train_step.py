"""The savings of each measure in a training step of MobileFaceNet and ArcFace on the CPU.

10,000 identities, batches of 128. Run: just bench-train-step. Each variant runs in its own process,
alternating; the figures are the fastest step of each, in CPU milliseconds per image, and the ratio
to the plain step in the same run.
"""

import json
import subprocess
import sys
import time

import torch
from torch import nn

from distill.backbones import create
from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.training.memory import keep_freed_memory
from teachers.layers import PReLU

BATCH, SIZE, IDENTITIES, STEPS, ROUNDS = 128, 112, 10_000, 3, 2
VARIANTS = ("plain", "channels_last", "and our PReLU", "and freed memory kept")


def measure(variant: str) -> float:
    """CPU milliseconds per image of the fastest step."""
    level = VARIANTS.index(variant)
    layout = torch.channels_last if level >= 1 else torch.contiguous_format
    network = create("mobilefacenet", input_size=(SIZE, SIZE)).to(memory_format=layout)
    if level < 2:
        for module in network.modules():
            if isinstance(module, PReLU):
                module.__class__ = nn.PReLU
    if level >= 3:
        keep_freed_memory()
    losses = WeightedLosses(parse_losses({"arcface": {}}, "losses"), 128, IDENTITIES)
    labels = torch.randint(IDENTITIES, (BATCH,))
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=layout)
    parameters = [*network.parameters(), *losses.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    times = []
    for _ in range(STEPS):
        started = time.process_time()
        optimiser.zero_grad()
        losses(LossInputs(network(images), labels))["total"].backward()
        optimiser.step()
        times.append(time.process_time() - started)
    return 1000 * min(times) / BATCH


def main() -> None:
    """Measure all variants alternately and print the table."""
    best = dict.fromkeys(VARIANTS, float("inf"))
    for _ in range(ROUNDS):
        for variant in VARIANTS:
            command = [sys.executable, __file__, variant]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            best[variant] = min(best[variant], json.loads(answer))
    for variant, figure in best.items():
        ratio = figure / best["plain"]
        sys.stdout.write(f"{variant:24} {figure:7.1f} ms/image  x{ratio:.2f}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        sys.stdout.write(json.dumps(measure(sys.argv[1])))
    else:
        main()
