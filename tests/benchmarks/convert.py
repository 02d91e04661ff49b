"""Speed of `curate convert`, compared with a copy, a bare loop of LMDB appends, and MXNet's reader.

Run: just bench-convert [--records N] [--mxnet PYTHON]. Each runs in its own process, alternating,
until its bytes are on disk; the figures are the fastest run of each. PYTHON is the interpreter of
an environment with the real MXNet (`just test-mxnet` creates one); without it its row is omitted.
"""

import argparse
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

ROUNDS = 3
IMAGES_PER_IDENTITY = 40
DIFFERENT = 997
BATCH = 2048
"""Images in one transaction of the bare loop, 16 MB: other sizes were no faster."""

MXNET = """
import sys, time
from mxnet import recordio
begin = time.perf_counter()
reader = recordio.MXRecordIO(sys.argv[1], "r")
count = 0
while (record := reader.read()) is not None:
    header, image = recordio.unpack(record)
    count += 1
print(time.perf_counter() - begin)
"""


def draw_source(folder: Path, records: int) -> None:
    """A training set of JPEGs of about 6 KB, like MS1M's."""
    from curation.images import encode_jpeg
    from curation.records.layout_writer import write_layout

    random = np.random.default_rng(0)
    images = []
    for _ in range(DIFFERENT):
        small = random.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        image = cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC).astype(np.float64)
        noisy = np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        images.append(encode_jpeg(noisy, int(random.integers(80, 90))))
    pack = ((images[i % DIFFERENT], i // IMAGES_PER_IDENTITY) for i in range(records))
    write_layout(folder, pack, (112, 112))


def write_other_forms(source: Path) -> None:
    """The same images as WebDataset's shards and as Parquet tables, beside the record file."""
    from curation.conversion.convert import convert
    from curation.export_shards import export_parquet, export_webdataset

    store = convert(source, Path(f"{source}-whole.lmdb"))
    export_webdataset(store, _form(source, "tar"))
    export_parquet(store, _form(source, "parquet"))
    shutil.rmtree(store.path)


def _form(source: Path, name: str) -> Path:
    return source.with_name(f"{source.name}-as-{name}")


def copy(source: Path, place: Path) -> float:
    """Seconds of `cp` and `sync`."""
    begin = time.perf_counter()
    subprocess.run(["cp", source / "train.rec", place], check=True)
    subprocess.run(["sync", place], check=True)
    return time.perf_counter() - begin


def bare_appends(source: Path, place: Path) -> float:
    """Seconds of LMDB appends of the images, which are in memory; one sync at the end."""
    import lmdb

    from curation.records.ms1m import find_source
    from curation.sources.records import read_images

    images = [image.payload for image in read_images(find_source(source))]
    batches = [*range(0, len(images), BATCH), len(images)]
    begin = time.perf_counter()
    with lmdb.open(str(place), map_size=1 << 36, sync=False) as environment:
        for first, last in pairwise(batches):
            with environment.begin(write=True) as batch:
                entries = [(struct.pack(">Q", i), images[i]) for i in range(first, last)]
                batch.cursor().putmulti(entries, append=True)
        environment.sync(True)
    return time.perf_counter() - begin


def conversion(source: Path, place: Path) -> float:
    """Seconds of a complete conversion."""
    from curation.conversion.convert import convert

    begin = time.perf_counter()
    convert(source, place)
    return time.perf_counter() - begin


def tar_conversion(source: Path, place: Path) -> float:
    """Seconds of a conversion of WebDataset's shards."""
    return conversion(_form(source, "tar"), place)


def parquet_conversion(source: Path, place: Path) -> float:
    """Seconds of a conversion of Parquet tables."""
    return conversion(_form(source, "parquet"), place)


VARIANTS: dict[str, Callable[[Path, Path], float]] = {
    "cp": copy,
    "bare LMDB appends": bare_appends,
    "curate convert": conversion,
    "of tar": tar_conversion,
    "of Parquet": parquet_conversion,
}


def measure(variant: str, source: Path) -> dict[str, float]:
    """One run in its own process: seconds, CPU seconds, peak memory in MB."""
    place = Path(f"{source}-{variant.replace(' ', '-')}.lmdb")
    os.sync()
    command = [sys.executable, __file__, "--run", variant, str(source), str(place)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    return json.loads(answer)


def run(variant: str, source: Path, place: Path) -> None:
    """Runs in the child process, after the import of large libraries."""
    import lmdb  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    begin = time.process_time()
    seconds = VARIANTS[variant](source, place)
    cpu = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak}))


def read_with_mxnet(python: str, source: Path) -> float:
    """Seconds that MXNet takes to read and unpack all records, without writing."""
    command = [python, "-c", MXNET, str(source / "train.rec")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(source: Path, records: int, rounds: int, mxnet: str | None) -> None:
    """Measure alternately and print the table."""
    size = (source / "train.rec").stat().st_size / 1e6
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    readings = []
    for _ in range(rounds):
        for variant in VARIANTS:
            runs[variant].append(measure(variant, source))
        if mxnet:
            readings.append(read_with_mxnet(mxnet, source))
    best = {variant: min(run["seconds"] for run in runs[variant]) for variant in VARIANTS}
    say(f"{records:,} records, {size:,.0f} MB; fastest of {rounds} runs")
    for variant, seconds in best.items():
        peak = max(run["peak"] for run in runs[variant])
        ratios = ", ".join(f"{best[other] / seconds:.2f} x {other}" for other in VARIANTS)
        say(
            f"{variant:18} {seconds:6.2f} s {size / seconds:6.0f} MB/s "
            f"{records / seconds:9,.0f} images/s  peak {peak:4.0f} MB  = {ratios}"
        )
    if readings:
        say(f"{'MXNet reads only':18} {min(readings):6.2f} s {size / min(readings):6.0f} MB/s")
    least = {variant: min(run["cpu"] for run in runs[variant]) for variant in VARIANTS}
    for variant, results in runs.items():
        say(f"all runs, {variant}: " + ", ".join(f"{run['seconds']:.2f}" for run in results))
        ratio = least["curate convert"] / least[variant]
        say(f"  {least[variant]:.2f} CPU s, {ratio:.2f} x curate convert per CPU second")


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Draw the source in a temporary folder, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON"))
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run[0], Path(options.run[1]), Path(options.run[2]))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "source"
        draw_source(source, options.records)
        write_other_forms(source)
        compare(source, options.records, options.rounds, options.mxnet)


if __name__ == "__main__":
    main()
