"""Two ranks fill the caches of a teacher's views: ``rank_filling.py STORE CACHES FOLDER``.

Run by test_filling_on_ranks.py. AFTER_SOME says what the ranks do after a few images: "die"
kills rank 1, "meet" waits for the other rank and for the process of the test.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_training import Plain

from curation.views import ImageSet, open_images
from distill.pipeline.teacher_answers import Question, required_answers
from distill.training import distributed
from distill.training.augment import AugmentSettings
from teachers import embeddings
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing

VIEWS = AugmentSettings(views=4, mix=0.3)
CLAIM = 2
"""Rows: the drawn images are a single claim of the usual size, which one process takes."""
SOME = 4 * CLAIM
"""Images: two batches, upright and mirrored; the first is on disk then."""
PATIENCE = 120
"""Seconds"""


class WatchedTeacher(TorchEmbedder):
    """A small teacher that counts its images and calls ``watch`` before each batch."""

    def __init__(self, watch: Callable[[int], None]) -> None:
        self.watch, self.images = lambda images: None, 0
        super().__init__(Plain(), Preprocessing.ours((32, 32)), "small")
        self.watch, self.images = watch, 0

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.watch(self.images)
        self.images += len(images)
        return super().embed(images)


def fill(store: ImageSet, caches: Path, watch: Callable[[int], None] = lambda images: None) -> int:
    """Fill the caches of all views; returns the number of images that this process embedded."""
    embeddings.CLAIM = CLAIM
    teacher = WatchedTeacher(watch)
    asked = required_answers(store, VIEWS, "float16")
    Question(teacher, store, caches, asked).ask(lambda *done: None, distributed.several_machines())
    return teacher.images


def meet(folder: Path, number: int) -> None:
    """Wait until three processes are here."""
    (folder / f"here-{number}").touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob("here-*"))) < 3:
        assert time.monotonic() < deadline, "the others do not come"
        time.sleep(0.01)


def die(folder: Path, number: int) -> None:
    """Kill rank 1; rank 0 waits for its end by torchrun."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(PATIENCE)


def main() -> None:
    store, caches, folder = open_images(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    act = {"die": die, "meet": meet}.get(os.environ.get("AFTER_SOME", ""))
    with distributed.process_group():
        rank = distributed.rank()

        def watch(images: int) -> None:
            if act is not None and images == SOME:
                act(folder, rank)

        embedded = fill(store, caches, watch)
        (folder / f"embedded-{rank}").write_text(str(embedded))


if __name__ == "__main__":
    main()
