"""Further processes that fill a cache: one for each GPU after the first.

A helper makes the same call as the process it helps, on the same cache, with a GPU of its own. One
that dies costs only its share of the speed: the others take over its blocks. Only the CPU side of
this has been run.
"""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path

from curation.errors import UserError
from curation.views import ImageSet, open_images
from teachers.embedder import Embedder

VISIBLE = "CUDA_VISIBLE_DEVICES"


def other_gpus(embedder: Embedder) -> int:
    """How many GPUs there are beside the one ``embedder`` runs on; 0 where it runs on the CPU."""
    if not embedder.on_gpu:
        return 0
    import torch

    return torch.cuda.device_count() - 1


@contextmanager
def helped(
    count: int, work: Callable[..., object], embedder: Embedder, images: ImageSet, cache_root: Path
) -> Iterator[None]:
    """``count`` helpers fill the cache while the block runs; they end with it.

    ``work`` is the function that they call, as ``teachers.embeddings.cache_embeddings``.
    """
    processes = []
    try:
        for number in range(1, count + 1):
            processes.append(_start(number, work, embedder, images, cache_root))
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _start(
    number: int,
    work: Callable[..., object],
    embedder: Embedder,
    images: ImageSet,
    cache_root: Path,
) -> SpawnProcess:
    # Pickled here, so that the helper has chosen its GPU before the network is made again there.
    arguments = (number, os.getpid(), work, pickle.dumps(embedder), images.path, cache_root)
    process = multiprocessing.get_context("spawn").Process(
        target=_help, args=arguments, daemon=True
    )
    process.start()
    return process


def _help(
    number: int,
    parent: int,
    work: Callable[..., object],
    packed: bytes,
    images: Path,
    cache_root: Path,
) -> None:
    """What a helper does: the same call, until all is computed or who it helps is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who is helped
    os.environ[VISIBLE] = _gpu(number)

    def stay(done: int, total: int) -> None:
        if os.getppid() != parent:
            raise SystemExit

    with suppress(UserError):  # the one who is helped meets the same mistake, and says it
        embedder = pickle.loads(packed)
        work(embedder, open_images(images), cache_root, stay, helpers=0)


def _gpu(number: int) -> str:
    """The name of the GPU with this number, of those that this process may see."""
    visible = os.environ.get(VISIBLE)
    return visible.split(",")[number] if visible else str(number)
