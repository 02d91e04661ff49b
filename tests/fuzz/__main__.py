"""``just fuzz``: runs many inputs through every reader; exit status 1 if one misbehaves."""

import json
import os
import random
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict
from math import ceil
from pathlib import Path
from threading import Event

from distill.cli.bars import watch
from tests.fuzz.campaign import OUTCOMES, Failure, Tally, run_campaign
from tests.fuzz.harness import Reader, lay_out, readers
from tests.fuzz.mutators import make_input
from tests.fuzz.worker import MOST_MEMORY

_INTERRUPTED = 130
"""Exit status of a shell after SIGINT"""


def main(arguments: Sequence[str]) -> int:
    known = readers()
    parser = ArgumentParser(prog="just fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(known))
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, help="of another run, to repeat it")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seconds", type=float, default=120, help="after which an input hangs")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="kept there")
    parser.add_argument("--json", action="store_true", help="the table for machines")
    options = parser.parse_args(arguments)
    for name in set(options.readers) - known.keys():
        parser.error(f"there is no reader {name!r}; there are {', '.join(known)}")
    if options.inputs < 1:
        parser.error(f"--inputs is {options.inputs}; allowed: 1 and more")
    seed = random.randrange(10**6) if options.seed is None else options.seed
    chosen = [known[name] for name in options.readers or known]
    shares = _shares(chosen, options.inputs)
    sys.stderr.write(f"seed {seed}: {sum(shares)} inputs for {len(chosen)} readers\n")
    began = time.monotonic()
    tallies = _run(chosen, shares, seed, options.first, options.seconds)
    for failure in (each for tally in tallies for each in _distinct(tally.failures)):
        kept = _keep(failure, known[failure.reader], options.failures)
        sys.stderr.write(f"{failure.reader} {failure.outcome}: {failure.reason}\n  {kept}\n")
    table = _as_json if options.json else _as_text
    sys.stdout.write(table(tallies, seed, time.monotonic() - began))
    if any(tally.failures or tally.peak > MOST_MEMORY for tally in tallies):
        return 1
    return 0 if sum(tally.inputs for tally in tallies) >= sum(shares) else _INTERRUPTED


def _shares(chosen: Sequence[Reader], inputs: int) -> list[int]:
    """The number of inputs per reader; their sum is at least ``inputs``."""
    total = sum(reader.share for reader in chosen)
    return [ceil(inputs * reader.share / total) for reader in chosen]


def _run(
    chosen: Sequence[Reader], shares: Sequence[int], seed: int, first: int, patience: float
) -> list[Tally]:
    """The results of all inputs; after Ctrl-C, of those already tried."""
    done, interrupted = 0, Event()
    with (
        suppress(KeyboardInterrupt),
        watch("fuzz", "inputs") as progress,
        ThreadPoolExecutor(os.cpu_count()) as threads,
    ):

        def told() -> None:
            nonlocal done
            done += 1
            progress(done, sum(shares))

        campaigns = [
            threads.submit(
                run_campaign, reader, seed, count, patience, told, first, interrupted.is_set
            )
            for reader, count in zip(chosen, shares, strict=True)
        ]
        try:
            wait(campaigns)
        except KeyboardInterrupt:
            interrupted.set()
            raise
    return [campaign.result() for campaign in campaigns]


def _distinct(failures: Sequence[Failure]) -> list[Failure]:
    """The first failure for each reason."""
    return list({failure.reason: failure for failure in reversed(failures)}.values())


def _keep(failure: Failure, reader: Reader, folder: Path) -> Path:
    """Save the failing input for analysis and for a test."""
    case = folder / f"{failure.reader}-{failure.seed}-{failure.number}"
    if not case.exists():
        lay_out(make_input(reader, failure.seed, failure.number), case)
    return case


def _as_text(tallies: Sequence[Tally], seed: int, seconds: float) -> str:
    """A table in Markdown."""
    lines = [f"| reader | inputs | {' | '.join(OUTCOMES)} | peak memory |", "|---" * 8 + "|"]
    for tally in tallies:
        counts = " | ".join(f"{tally.counts[outcome]:,}" for outcome in OUTCOMES)
        lines.append(f"| {tally.reader} | {tally.inputs:,} | {counts} | {tally.peak >> 20} MiB |")
    sums = [sum(tally.counts[outcome] for tally in tallies) for outcome in OUTCOMES]
    peak = max(tally.peak for tally in tallies) >> 20
    counted = " | ".join(f"{each:,}" for each in sums)
    lines.append(f"| **all** | {sum(sums):,} | {counted} | {peak} MiB |")
    return "\n".join([*lines, "", f"Seed {seed}, {seconds / 60:.0f} minutes.", ""])


def _as_json(tallies: Sequence[Tally], seed: int, seconds: float) -> str:
    rows = [asdict(tally) for tally in tallies]
    return (
        json.dumps({"seed": seed, "seconds": round(seconds, 1), "readers": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
