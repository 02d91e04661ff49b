"""Caching a teacher's embeddings, compared with its bare forward passes on the same images.

Run: just bench-cache [--data STORE] [--onnx FILE] [--images N]. Alternates, in one process, between
the network alone on prepared pixels and ``cache_embeddings`` from the store to a verified cache.
The figures are CPU-seconds, so decoding and writing count on any thread, and the ratio of the
fastest runs. An .onnx FILE takes 112x112 RGB and normalises it itself, like SFace.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from drawn_store import drawn_store

import teachers
from curation.image_set import ImageSet
from curation.images import decode
from curation.store import Store
from curation.view_writing import write_view
from distill.backbones import create
from teachers import embeddings
from teachers.embedder import CPU_BATCH, Embedder, TorchEmbedder, module_digest
from teachers.embeddings import cache_embeddings
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing

BLOCK = 64
"""Smaller than in production, so that the overhead per batch counts fourfold."""
BAR = 0.95


def torch_teacher() -> tuple[TorchEmbedder, Callable[[torch.Tensor], object]]:
    """insightface's ResNet-18 with random weights, and its bare forward pass."""
    network = create("iresnet18")
    teacher = TorchEmbedder(network, Preprocessing.ours(), module_digest(network), "cpu")

    def forward(pixels: torch.Tensor) -> object:
        with torch.inference_mode():
            return network(pixels)

    return teacher, forward


def onnx_teacher(path: Path | None) -> OnnxEmbedder:
    """The given file, or the teacher included in the project, which takes 64x64."""
    if path is not None:
        return OnnxEmbedder(path, Preprocessing(colour="RGB", mean=0.0, std=1.0))
    own = Path(teachers.__file__).with_name("drawn_faces.onnx")
    return OnnxEmbedder(own, Preprocessing.ours((64, 64)))


def blocks(images: ImageSet) -> list[np.ndarray]:
    """The decoded images of each batch, alternately upright and mirrored."""
    pictures = np.stack([decode(images.read(i)) for i in range(len(images))])
    cut = np.split(pictures, range(BLOCK, len(pictures), BLOCK))
    return [view for block in cut for view in (block, np.ascontiguousarray(block[:, :, ::-1]))]


def seconds(work: Callable[[], object]) -> float:
    """CPU-seconds of all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(name: str, teacher: Embedder, bare: Callable[[], object], images: ImageSet) -> None:
    """Print the fastest of three runs of each."""
    forwards, caching = [], []
    for _ in range(3):
        forwards.append(seconds(bare))
        with tempfile.TemporaryDirectory() as folder:
            caching.append(
                seconds(lambda root=Path(folder): cache_embeddings(teacher, images, root))
            )
    ratio = min(forwards) / min(caching)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"{name:12} forwards {min(forwards):7.2f} s  caching {min(caching):7.2f} s  "
        f"speed x{ratio:.3f} (bar {BAR})  peak memory {memory:,.0f} MiB\n"
    )


def main() -> None:
    """Measure both kinds of teachers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a store of 112x112 faces")
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--images", type=int, default=2 * BLOCK)
    options = parser.parse_args()
    embeddings.CLAIM = BLOCK
    work = Path(tempfile.mkdtemp())
    store = Store(options.data) if options.data else drawn_store(work, options.images)
    rows = np.arange(options.images)
    labels = np.unique(store.labels[rows], return_inverse=True)[1].astype(np.int32)
    images = write_view(work / "first.view", store, rows, labels, "first", {})
    views = blocks(images)

    onnx = onnx_teacher(options.onnx)
    ready = [onnx.preprocessing(view) for view in views]
    compare("onnx", onnx, lambda: [onnx.run(pixels) for pixels in ready], images)

    network, forward = torch_teacher()
    parts = [
        network.pixels(view[begin : begin + CPU_BATCH])
        for view in views
        for begin in range(0, BLOCK, CPU_BATCH)
    ]
    compare("iresnet18", network, lambda: [forward(part) for part in parts], images)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
