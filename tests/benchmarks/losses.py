"""The cost of every head, and of every loss on class weights, relative to ArcFace, on one core.

Run: just bench-losses. Forward and backward at the size of the cleaned MS1M (93,431 identities, 512
dimensions), without a network, alternating; the figures are the fastest of each, in CPU seconds per
batch. Losses on centres run together with ArcFace, as in a stage. ``inter`` also runs alone with
more sampled classes; the last line extrapolates to all classes.
"""

import argparse
import sys
import time

import torch

from distill.losses import LOSSES, LossInputs, parse_losses

WIDTH = 512
ARCFACE = ("arcface",)
COMPARED = [
    *((name,) for name in ("softmax", "cosface", "combined", "sphereface", "sv")),
    *((name,) for name in ("li_arcface", "adaface", "curricularface")),
    *(("arcface", name) for name in ("intra", "inter", "uniformface", "center")),
]


def cpu_seconds(given: LossInputs, losses: dict[str, dict[str, int]]) -> float:
    """CPU seconds of one forward and backward pass; the cosines are recomputed."""
    assert given.centres is not None
    parts = [
        LOSSES[name].build(settings, WIDTH, len(given.centres))
        for name, settings in parse_losses(losses, "losses").items()
    ]
    fresh = LossInputs(given.embeddings, given.labels, centres=given.centres)
    given.centres.grad = None
    started = time.process_time()
    torch.stack([part(fresh) for part in parts]).sum().backward()
    return time.process_time() - started


def main() -> None:
    """Measure alternately and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=93_431)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    given = LossInputs(
        torch.randn(options.batch, WIDTH, requires_grad=True),
        torch.randint(options.identities, (options.batch,)),
        centres=torch.randn(options.identities, WIDTH, requires_grad=True),
    )
    best = dict.fromkeys([ARCFACE, *COMPARED], float("inf"))
    drawn = dict.fromkeys([256, 1024], float("inf"))
    for _ in range(options.rounds):
        for names in best:
            best[names] = min(best[names], cpu_seconds(given, {name: {} for name in names}))
        for classes in drawn:
            spent = cpu_seconds(given, {"inter": {"classes": classes}})
            drawn[classes] = min(drawn[classes], spent)
    for names, seconds in best.items():
        ratio = seconds / best[ARCFACE]
        sys.stdout.write(f"{' + '.join(names):24} {seconds:6.2f} s  x{ratio:.2f}\n")
    for classes, seconds in drawn.items():
        sys.stdout.write(f"inter of {classes:<15} {seconds:6.2f} s\n")
    each = (drawn[1024] - drawn[256]) / (1024 - 256)
    sys.stdout.write(f"inter of all, computed    {each * options.identities:6.0f} s\n")


if __name__ == "__main__":
    main()
