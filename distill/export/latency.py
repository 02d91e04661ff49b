"""Measures the latency of each format of a bundle on this machine, each in a separate process."""

import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.wording import counted
from distill.export.bundle import sync_tree
from distill.export.bundle_files import check_bundle, files_of
from distill.export.embedder import TORCH, runtimes_of
from distill.export.exporter import exporters
from distill.export.format_process import COPIES, MEMORY
from distill.export.remeasured import describe_again, read_object
from teachers.confined import allow, end_with_parent

LONGEST = 600
"""Time limit of one measurement, in seconds"""
LEAST_RUNS, LEAST_SECONDS = 30, 2.0


def latencies(
    bundle: Path, threads: list[int], report: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Measure every runtime with every number of threads.

    A row has the median (``p50``) and 95th percentile (``p95``) of the milliseconds per image, the
    seconds to load, the bytes of the files and the peak memory. A runtime that cannot run here has
    a row with ``why_not``.
    """
    config, _ = check_bundle(bundle)
    rows = []
    for runtime in [TORCH, *(each for each in runtimes_of(config) if each != TORCH)]:
        names = config.formats.get(runtime, ("model.safetensors",))
        size = sum((bundle / name).stat().st_size for name in names)
        reason = _no_torch() if runtime == TORCH else exporters()[runtime].why_not_run()
        for count in threads[:1] if reason else threads:
            report(f"{runtime}, {counted(count, 'thread')}")
            row = {"runtime": runtime, "threads": count, "bytes": size}
            rows.append(
                row | ({"why_not": reason} if reason else _measured(bundle, runtime, count))
            )
    return rows


def _no_torch() -> str | None:
    there = importlib.util.find_spec("torch")
    return None if there else "torch is not installed: `pip install 'face-distill[train]'`"


def _measured(bundle: Path, runtime: str, threads: int) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(bundle), runtime],
            env={**os.environ, **dict.fromkeys(names, str(threads))},
            capture_output=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"why_not": f"it took more than {LONGEST} s"}
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return {"why_not": f"it failed: {lines[-1] if lines else done.returncode}"[:300]}
    return json.loads(done.stdout.splitlines()[-1])


def put_latencies(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table to ``evaluation.json`` in a copy of the bundle, and update the checksums."""
    evaluation = read_object(folder / "evaluation.json")
    evaluation["latency"] = {"machine": cpu_name(), "rows": rows}
    describe_again(folder, check_bundle(folder).config, evaluation)
    sync_tree(folder)


def cpu_name() -> str:
    """The name of this machine's processor, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _main(folder: str, runtime: str) -> None:
    """Measure in this process, and print a line of JSON."""
    end_with_parent()
    bundle = Path(folder)
    config, _ = check_bundle(bundle)
    size = sum((bundle / name).stat().st_size for name in files_of(config))
    allow(MEMORY + COPIES * size)
    preprocessing = config.face.preprocessing
    images = np.random.default_rng(0).integers(0, 256, (1, *preprocessing.size, 3), np.uint8)
    whole = runtime != TORCH and exporters()[runtime].gives_features
    pixels = images if whole else preprocessing(images)
    began = time.perf_counter()
    run = _eager(bundle) if runtime == TORCH else exporters()[runtime].run(bundle)
    run(pixels)
    loaded = time.perf_counter() - began
    seconds: list[float] = []
    while len(seconds) < LEAST_RUNS or sum(seconds) < LEAST_SECONDS:
        began = time.perf_counter()
        run(pixels)
        seconds.append(time.perf_counter() - began)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row = {"p50": p50, "p95": p95, "load_seconds": loaded, "memory_bytes": most}
    print(json.dumps(row))  # noqa: T201 - the answer to the process that started this one


def _eager(bundle: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The network as trained, unfolded, in PyTorch."""
    import torch

    from distill.export.embedder import open_bundle_network

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    network = open_bundle_network(bundle)[1].eval()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).numpy()

    return run


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit(f"it takes more than {MEMORY / (1 << 30):g} GiB of memory beside its weights")
