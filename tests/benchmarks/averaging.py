"""The cost of averaging weights (`ema`) in a training step of MobileFaceNet and ArcFace.

112x112, 1,000 identities, batches of 64, one core. Run: just bench-averaging. The figures are the
fastest step and the median update of the average in CPU milliseconds; the limit is 5 %.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from distill.backbones import create
from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.training.averaging import WeightAverage

BATCH, SIZE, IDENTITIES, STEPS = 64, 112, 1000, 6
LIMIT = 0.05


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def main() -> int:
    """Print both figures and their ratio; return 1 if it is above the limit."""
    torch.set_num_threads(1)
    network = create("mobilefacenet", input_size=(SIZE, SIZE)).to(memory_format=torch.channels_last)
    losses = WeightedLosses(parse_losses({"arcface": {}}, "losses"), 128, IDENTITIES)
    parameters = [*network.parameters(), *losses.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    average = WeightAverage(network, decay=0.999)
    labels = torch.randint(IDENTITIES, (BATCH,))
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def train() -> None:
        optimiser.zero_grad()
        losses(LossInputs(network(images), labels))["total"].backward()
        optimiser.step()

    steps, updates = [], []
    for step in range(STEPS):
        steps.append(milliseconds(train))
        updates.append(milliseconds(lambda step=step: average.update(step)))
    share = statistics.median(updates) / min(steps)
    sys.stdout.write(
        f"step {min(steps):.0f} ms, average {statistics.median(updates):.2f} ms: {share:.2%}\n"
    )
    return int(share > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
