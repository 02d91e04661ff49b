"""LMDB's own appends beside the page writer of `curate convert`: CPU and wall seconds, in turns.

Run: just bench-page-writer [IMAGES]. Images of about 3 kB go from memory to the disk (TMPDIR).
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import lmdb
import numpy as np

from curation.conversion.lmdb_writer import LmdbWriter

ROUNDS, BATCH, DIFFERENT = 3, 32_768, 997
Batches = list[list[bytes]]


def append(place: Path, batches: Batches, writemap: bool) -> None:
    with lmdb.open(str(place), 1 << 36, subdir=False, writemap=writemap, sync=False) as store:
        for first, batch in zip(count(step=BATCH), batches, strict=False):
            with store.begin(write=True) as transaction:
                entries = ((i.to_bytes(8, "big"), image) for i, image in enumerate(batch, first))
                transaction.cursor().putmulti(entries, append=True)
        store.sync(True)


def write_pages(place: Path, batches: Batches) -> None:
    with LmdbWriter(place) as writer:
        for batch in batches:
            writer.put_numbered(batch)
        writer.end_leaf()
        leaves = [(leaf.first_entry.to_bytes(8, "big"), leaf.page) for leaf in writer.take_leaves()]
        writer.finish(leaves, len(leaves))


VARIANTS: dict[str, Callable[[Path, Batches], None]] = {
    "page writer": write_pages,
    "py-lmdb, writemap": partial(append, writemap=True),
    "py-lmdb": partial(append, writemap=False),
}

if __name__ == "__main__":
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    drawn = [np.random.default_rng(i).bytes(2_000 + 2 * i) for i in range(DIFFERENT)]
    firsts = range(0, images, BATCH)
    work = [[drawn[i % DIFFERENT] for i in range(n, min(n + BATCH, images))] for n in firsts]
    runs: dict[str, list[str]] = {name: [] for name in VARIANTS}
    for name in [*VARIANTS] * ROUNDS:
        with tempfile.TemporaryDirectory() as folder:
            cpu, wall = time.process_time(), time.perf_counter()
            VARIANTS[name](Path(folder) / "store.lmdb", work)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            runs[name].append(f"{cpu:.2f}/{wall:.2f}")
    for name, seconds in runs.items():
        sys.stdout.write(f"{name:18} CPU/wall seconds {', '.join(seconds)}\n")
