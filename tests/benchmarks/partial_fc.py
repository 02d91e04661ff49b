"""The cost of a step of the class head with sampled class weights, compared with the dense head.

Run: just bench-partial-fc (five to nine minutes; the dense head of a million needs more than 18 GB
and is skipped if they are not free). ArcFace on given embeddings, without a network: forward,
backward and the update by SGD with momentum, as in the torch engine. Each configuration runs in its
own process on one thread. The figures are the median CPU time of a step after the first, and the
peak resident memory of the process, of which 0.55 GB are the libraries.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from distill.losses import LossInputs, WeightedLosses, parse_losses
from distill.training import distributed
from distill.training.memory import keep_freed_memory
from distill.training.partial_fc import PartialCentres

WIDTH, BATCH = 512, 128
CONFIGURATIONS = [
    *((identities, rate) for identities in (10_000, 100_000, 500_000) for rate in (1.0, 0.1)),
    *((1_000_000, rate) for rate in (1.0, 0.1, 0.01)),
]
DENSE = 1.0
SPARE = 0.9
"""The share of the free memory that a process may take, to protect other processes."""
NO_MEMORY = 3


def steps(identities: int, rate: float, count: int) -> list[float]:
    """CPU seconds of each of ``count`` steps, including the first."""
    torch.manual_seed(0)
    losses = WeightedLosses(parse_losses({"arcface": {}}, "losses"), WIDTH, identities)
    partial = None
    if rate < DENSE:
        partial = PartialCentres(losses, rate, False, BATCH, torch.device("cpu"))
    optimiser = torch.optim.SGD(losses.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    spent = []
    for step in range(count):
        distributed.seed_step(0, step)
        embeddings = torch.randn(BATCH, WIDTH, requires_grad=True)
        labels = torch.randint(identities, (BATCH,))
        began = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        if partial is not None:
            partial.gather(labels.numpy(), optimiser.state)
        losses(LossInputs(embeddings, labels))["total"].backward()
        optimiser.step()
        if partial is not None:
            partial.scatter(optimiser.state)
        spent.append(time.process_time() - began)
    return spent


def measure_here(identities: int, rate: float, count: int) -> int:
    """Print the figures of one configuration; return the exit status."""
    torch.set_num_threads(1)
    keep_freed_memory()
    limit = int(SPARE * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        spent = steps(identities, rate, count)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return NO_MEMORY if "allocate memory" in str(error) else 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"milliseconds": 1e3 * statistics.median(spent[1:]), "peak_bytes": peak}
    sys.stdout.write(json.dumps(found))
    return 0


def measure(identities: int, rate: float, count: int) -> dict[str, float]:
    """The same from a separate process; empty if memory is insufficient."""
    given = [str(identities), str(rate), str(count)]
    command = [sys.executable, __file__, "--one", *given]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if outcome.returncode == NO_MEMORY:
        return {}
    outcome.check_returncode()
    return json.loads(outcome.stdout)


def row(identities: int, rate: float, found: dict[str, float], dense: dict[str, float]) -> str:
    """A line of the table, with the dense head's figures relative to these."""
    name = f"{identities:>9,}  {'dense' if rate == DENSE else f'{rate:.0%}':>6}"
    if not found:
        return f"{name}  does not fit into the memory that is free"
    line = f"{name}  {found['milliseconds']:9.1f}  {found['peak_bytes'] / 1e9:8.2f}"
    if not dense or rate == DENSE:
        return line
    faster = dense["milliseconds"] / found["milliseconds"]
    return f"{line}  x{faster:.1f}  x{dense['peak_bytes'] / found['peak_bytes']:.1f}"


def main() -> int:
    """Measure all configurations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        identities, rate, count = options.one
        return measure_here(int(identities), float(rate), int(count))
    sys.stdout.write("identities  sample    ms/step   peak GB  faster  smaller\n")
    found: dict[tuple[int, float], dict[str, float]] = {}
    for identities, rate in CONFIGURATIONS:
        found[identities, rate] = measure(identities, rate, options.steps)
        line = row(identities, rate, found[identities, rate], found[identities, DENSE])
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if options.json:
        rows = [{"identities": k, "sample_rate": r, **each} for (k, r), each in found.items()]
        options.json.write_text(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
