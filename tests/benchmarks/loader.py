"""Speed of batch loading, compared with bare decoding, MXNet's usual pipeline, and a training step.

Run: just bench-loader --store PATH [--mxnet PYTHON]. PYTHON is the interpreter of an environment
with the real MXNet and torchvision (mxnet==1.9.1 numpy==1.23.5 torch torchvision), by default the
value of MXNET_PYTHON; without it that part is omitted. Variants alternate and the fastest of
several rounds counts. A CPU-second is one of the process itself, independent of other load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from curation.records.layout_writer import write_layout
from curation.views import ImageSet, open_images
from distill.backbones import create
from distill.losses import WeightedLosses, parse_losses
from distill.training.augment import AugmentSettings
from distill.training.config import TrainSettings
from distill.training.data import BatchLoader
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.memory import keep_freed_memory
from distill.training.shuffles import FullShuffle, WindowedShuffle
from distill.training.views import StudentViews, ViewChoice
from teachers.augment.augmentation import Augmentation
from teachers.preprocessing import Preprocessing

ROUNDS, BATCH, WINDOW, STEPS = 6, 128, 4096, 4
SOME = 1024
"""Images for measurements shorter than an epoch"""

USUAL_WAY = """
import json, sys, time
import mxnet, torch
from torchvision import transforms
torch.set_num_threads(1)
reader = mxnet.recordio.MXIndexedRecordIO(sys.argv[1] + ".idx", sys.argv[1] + ".rec", "r")
transform = transforms.Compose([
    transforms.ToPILImage(),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
])
keys = json.loads(sys.argv[2])
def read(key):
    header, image = mxnet.recordio.unpack(reader.read_idx(key))
    return transform(mxnet.image.imdecode(image).asnumpy())
for key in keys[:50]:
    read(key)
cpu, wall = time.process_time(), time.perf_counter()
for key in keys:
    read(key)
print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall]))
"""

Load = Callable[[bytes, np.ndarray], object]
Rates = tuple[float, float]
"""Images per CPU-second and per second"""
Variants = dict[str, Callable[[], Rates]]


def timed(images: int, work: Callable[[], object]) -> Callable[[], Rates]:
    """``work`` on this many images as a variant."""

    def run() -> Rates:
        cpu, began = time.process_time(), time.perf_counter()
        work()
        return images / (time.process_time() - cpu), images / (time.perf_counter() - began)

    return run


def compare(title: str, variants: Variants, yardsticks: list[str], rounds: int) -> None:
    """Measure alternately and print the fastest of each, with ratios to the references."""
    runs: dict[str, list[Rates]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            runs[name].append(variant())
    cpu = {name: max(run[0] for run in runs[name]) for name in variants}
    wall = {name: max(run[1] for run in runs[name]) for name in variants}
    say(f"\n{title}; fastest of {rounds} rounds; ratios to " + " and to ".join(yardsticks))
    for name in variants:
        columns = [f"{name:32}"]
        for unit, rates in (("CPU-second", cpu), ("second", wall)):
            ratios = " ".join(f"x{rates[name] / rates[other]:5.2f}" for other in yardsticks)
            columns.append(f"{rates[name]:8,.0f} a {unit} {ratios}")
        say("  ".join(columns))


def decode_all(load: Load, files: list[bytes], batch: np.ndarray) -> None:
    """Decode all files in order into the rows of ``batch``."""
    for number, data in enumerate(files):
        load(data, batch[number % BATCH])


def bare(data: bytes, row: np.ndarray) -> None:
    """cv2 with its own output buffers: the reference rate for a loader."""
    cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def with_cv2(data: bytes, row: np.ndarray) -> None:
    np.copyto(row, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def with_simplejpeg(data: bytes, row: np.ndarray) -> None:
    simplejpeg.decode_jpeg(data, "RGB", buffer=row)


def with_torchvision(data: bytes, row: np.ndarray) -> None:
    source = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    np.copyto(row, decode_jpeg(source, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy())


BINDINGS: dict[str, Load] = {
    "cv2, bare": bare,
    "cv2": with_cv2,
    "simplejpeg": with_simplejpeg,
    "torchvision": with_torchvision,
}


def compare_bindings(files: list[bytes], size: tuple[int, int]) -> None:
    """Every libjpeg-turbo binding available as a wheel, on one thread."""
    batch = np.empty((BATCH, *size, 3), np.uint8)

    def variant(load: Load) -> Callable[[], Rates]:
        return timed(len(files), lambda: decode_all(load, files, batch))

    variants = {name: variant(load) for name, load in BINDINGS.items()}
    compare("Bindings, files in memory, one thread", variants, ["cv2"], 5 * ROUNDS)


def mirrors(size: tuple[int, int]) -> None:
    """The cost of mirroring: microseconds per mirrored image."""
    batch = np.zeros((BATCH, *size, 3), np.uint8)
    tensor, half = torch.from_numpy(batch), torch.arange(BATCH) % 2 == 0
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "cv2.flip in place": (lambda: [cv2.flip(row, 1, dst=row) for row in batch], BATCH),
        "a reversed NumPy view, copied": (
            lambda: [np.copyto(batch[0], row[:, ::-1]) for row in batch[1:]],
            BATCH - 1,
        ),
        "rows of the batch by index, torch": (
            lambda: tensor.index_copy_(0, half.nonzero()[:, 0], tensor[half].flip(2)),
            BATCH // 2,
        ),
    }
    say("\nMirroring on the CPU, one thread")
    for name, (way, count) in ways.items():
        rate = max(timed(count, way)()[0] for _ in range(5 * ROUNDS))
        say(f"{name:34} {1e6 / rate:6.1f} microseconds an image")


def loading(images: ImageSet, files: list[bytes], threads: int) -> Variants:
    """Bare decoding and the loader on the same number of threads, a complete epoch."""
    plain = Preprocessing.ours(images.image_size)
    parts = [files[k::threads] for k in range(threads)]
    nowhere = np.empty((BATCH, 0), np.uint8)

    def decode_bare() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: decode_all(bare, part, nowhere), parts))

    def load(
        plan: FullShuffle | WindowedShuffle, seen: StudentViews | None = None
    ) -> Callable[[], Rates]:
        def run() -> None:
            with BatchLoader(images, plain, plan, threads=threads, views=seen) as loader:
                for _ in loader.batches(0, plan.steps_per_epoch):
                    pass

        return timed(plan.steps_per_epoch * BATCH, run)

    on = f"{threads} thread" + "s" * (threads > 1)
    return {
        f"bare, {on}": timed(len(files), decode_bare),
        f"loader, full, {on}": load(FullShuffle(len(images), BATCH, 0)),
        f"loader, windowed, {on}": load(WindowedShuffle(images.rows, BATCH, 0, WINDOW)),
        f"loader, 16 views, {on}": load(FullShuffle(len(images), BATCH, 0), views_of(images)),
    }


def views_of(images: ImageSet) -> StudentViews:
    """All augmentations at their defaults, and mixing."""
    settings = AugmentSettings(views=16, mix=0.1)
    return StudentViews(Augmentation(settings.strengths, images), ViewChoice(settings, 0))


def usual_way(python: str, images: ImageSet, chosen: list[int], folder: Path) -> Variants:
    """MXNet's reader and decoder with torchvision's transforms, in one process."""
    write_layout(
        folder, ((images.read(i), int(images.labels[i])) for i in range(len(images))), (112, 112)
    )
    # Records count from 1: 0 holds the end of the images.
    keys = json.dumps([index + 1 for index in chosen])

    def run() -> Rates:
        command = [python, "-c", USUAL_WAY, str(folder / "train"), keys]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        answer = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout
        cpu, wall = json.loads(answer.splitlines()[-1])
        return len(chosen) / cpu, len(chosen) / wall

    return {"the usual way, one process": run}


def data_wait(images: ImageSet, threads: int) -> None:
    """The share of a MobileFaceNet step at 112x112 that is spent waiting for data."""
    plain = Preprocessing.ours()
    losses = WeightedLosses(parse_losses({"arcface": {}}, "losses"), 128, images.identities)
    learner = Learner(create("mobilefacenet", 128, plain.size), losses, plain)
    settings = TrainSettings(batch_size=BATCH)
    engine = create_engine(learner, settings)
    full = FullShuffle(len(images), BATCH, 0)
    plans: dict[str, tuple[FullShuffle | WindowedShuffle, StudentViews | None]] = {
        "full": (full, None),
        "windowed": (WindowedShuffle(images.rows, BATCH, 0, WINDOW), None),
        "16 views": (full, views_of(images)),
    }
    say(f"\nWaiting for data, MobileFaceNet and ArcFace, batch {BATCH}, {STEPS} steps after one")
    for name, (plan, views) in plans.items():
        with BatchLoader(images, plain, plan, threads=threads, views=views) as loader:
            for step, batch in enumerate(loader.batches(0, STEPS + 1)):
                engine.step(batch, 0.001)
                if step == 0:
                    began, waited = time.monotonic(), loader.waited_seconds
            elapsed = time.monotonic() - began
            share = (loader.waited_seconds - waited) / elapsed
        say(f"{name:10} {elapsed / STEPS:6.2f} s a step, waiting {100 * share:.3f} %")


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure part by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="of 112x112 JPEGs")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    keep_freed_memory()  # like the training loop
    images = open_images(options.store)
    chosen = np.random.default_rng(0).permutation(len(images))
    files = list(images.read_many(chosen))
    say(f"{len(images):,} images of {np.mean([len(data) for data in files]):,.0f} bytes")
    compare_bindings(files[:SOME], images.image_size)
    mirrors(images.image_size)
    for threads in sorted({1, options.threads}):
        variants = loading(images, files, threads)
        compare("The loader", variants, [next(iter(variants))], options.rounds)
    if options.mxnet:
        with tempfile.TemporaryDirectory() as folder:
            rows = usual_way(options.mxnet, images, chosen[:SOME].tolist(), Path(folder) / "pack")
            variants = {**rows, **loading(images, files, 1)}
            compare("Against the usual way", variants, [next(iter(rows))], 3)
    data_wait(images, options.threads)


if __name__ == "__main__":
    main()
