"""Exact TAR at FAR 1e-8 and identification against a million images, compared with bare products.

Run: just bench-evaluation [--probes 20000] [--gallery 1000000] [--dimensions 512] [--json]
Uses drawn unit vectors: every probe is a gallery image with noise, so each has one mate. The bare
products are the same tiles in the same run, without processing their scores. Times are CPU
seconds, because those of the clock include what other processes take.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from distill.evaluation.all_pairs import cross_pairs
from distill.evaluation.identification import closed_set, search
from distill.evaluation.pair_scan import TILE, PairScan


def draw(probes: int, gallery: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the gallery [G, D], and of the probes [P, D] near the first of them."""
    generator = np.random.default_rng(0)
    vectors = np.empty((gallery, dimensions), np.float32)
    for start in range(0, gallery, 1 << 14):
        part = vectors[start : start + (1 << 14)]
        part[:] = generator.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    near = vectors[:probes] + 0.05 * generator.standard_normal((probes, dimensions), np.float32)
    return vectors, near / np.linalg.norm(near, axis=1, keepdims=True)


def bare_products(probes: np.ndarray, gallery: np.ndarray) -> None:
    buffer = np.empty(TILE * TILE, np.float32)
    for start in range(0, len(gallery), TILE):
        right = gallery[start : start + TILE]
        for top in range(0, len(probes), TILE):
            rows = probes[top : top + TILE]
            scores = buffer[: len(rows) * len(right)].reshape(len(rows), len(right))
            np.matmul(rows, right.T, out=scores)


def timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, default=20_000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    gallery, probes = draw(options.probes, options.gallery, options.dimensions)
    people, everybody = np.arange(options.probes), np.arange(options.gallery)
    PairScan(probes[:10], people[:10])
    inputs = peak_bytes()
    rows = [("bare products", timed(lambda: bare_products(probes, gallery)), "")]
    rates, ranks = {}, {}

    def verify(*exponents: int) -> None:
        report = cross_pairs(probes, people, gallery, everybody, exponents=exponents)
        rates.update(report["tar_at_far"])

    def identify() -> None:
        ranks.update(closed_set(search(probes, people, gallery, everybody))["ranks"])

    for first in (5, 3):
        took = timed(lambda first=first: verify(*range(first, 9)))
        found = rates["1e-8"]["tar"]
        shown = "" if found is None else f"{found:.4f} at 1e-8"
        rows.append((f"TAR at FAR 1e-{first} ... 1e-8, intervals", took, shown))
    rows.append(("ranks 1 to 20, intervals", timed(identify), f"rank 1: {ranks['1']['rate']:.4f}"))
    rows.append(("bare products", timed(lambda: bare_products(probes, gallery)), ""))
    base = (rows[0][1] + rows[-1][1]) / 2
    above = peak_bytes() - inputs
    if options.json:
        report = [{"what": what, "seconds": took, "ratio": took / base} for what, took, _ in rows]
        sys.stdout.write(json.dumps({"rows": report, "peak_above_inputs": above}, indent=1) + "\n")
        return
    for what, took, found in rows:
        sys.stdout.write(f"{what:40} {took:8.1f} s  {took / base:5.2f}  {found}\n")
    sys.stdout.write(f"peak memory above the inputs: {above / 2**20:,.0f} MiB\n")


if __name__ == "__main__":
    main()
