"""The sample data set in insightface's layout, and its ground truth."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from curation.errors import UserError
from curation.pairs import write_pairs
from curation.progress import Progress
from curation.records.layout_writer import write_layout
from curation.sample.ground_truth import TRUTH_FILE, VerificationTruth, ground_truth_of, write_truth
from curation.sample.plan import Plan, Shot, people_count, plan_training
from curation.sample.render import PICTURE
from curation.sample.size import DEFAULT_SIZE, SampleSize
from curation.sample.studio import PLAN, TRAINING, VERIFICATION, Studio, developed_again
from curation.sample.verification import SETS, SHOTS, PhotoKey, choose_pairs, photograph_person


def write_sample(
    folder: Path,
    seed: int = 0,
    progress: Progress | None = None,
    size: SampleSize = DEFAULT_SIZE,
    processes: int = 1,
) -> None:
    """Write train.rec, train.idx, property, the verification sets and, last, truth.json.

    The bytes depend only on seed, size and software, not on ``processes`` (a script that uses
    several must guard its main module). ``progress`` counts images. If truth.json exists, the
    sample is complete; it is deleted first, so an interrupted run has none. Raises ``UserError``
    for a negative seed.
    """
    if seed < 0:
        raise UserError(f"seed {seed} is negative; allowed: 0 or a positive whole number")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRUTH_FILE).unlink(missing_ok=True)
    studio = Studio(seed)
    plan = plan_training(size, studio.random(PLAN))
    total = sum(map(len, plan)) + len(SETS) * SHOTS * size.verification_people
    drawn = _counter(progress, total)
    with _crew(processes) as crew:
        images = _training_images(studio, plan, crew, drawn)
        write_layout(folder, images, (PICTURE, PICTURE))
        verification = tuple(_write_set(folder, name, studio, size, crew, drawn) for name in SETS)
    write_truth(folder, ground_truth_of(seed, plan, verification))


Crew = Callable[..., Iterator[Any]]
"""Like ``map``; the results are in order."""


@contextmanager
def _crew(processes: int) -> Iterator[Crew]:
    if processes <= 1:
        yield map
        return
    # Not forked, because the caller may have threads, for example of onnxruntime.
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin_worker) as pool:
        yield partial(pool.map, chunksize=4)


def _begin_worker() -> None:
    import cv2

    cv2.setNumThreads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool does not notice that its owner was killed, and would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def drawn() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return drawn


def _training_images(
    studio: Studio, plan: Plan, crew: Crew, drawn: Callable[[], None]
) -> Iterator[tuple[bytes, int]]:
    draw = partial(_identity_images, studio)
    for label, files in enumerate(crew(draw, range(len(plan)), plan)):
        for file in files:
            yield file, label
            drawn()


def _identity_images(studio: Studio, label: int, shots: list[Shot]) -> list[bytes]:
    files: list[bytes] = []
    for place, shot in enumerate(shots):
        stream = (TRAINING, label, place)
        if shot.person is None:
            file = studio.non_face(shot.non_face, *stream)
        elif shot.fault == "exact_duplicate" and shot.copy_of is not None:
            file = files[shot.copy_of]
        elif shot.fault == "near_duplicate" and shot.copy_of is not None:
            original = studio.conditions(TRAINING, label, shot.copy_of)
            file = studio.face(shot.person, developed_again(original, studio.random(*stream)))
        else:
            file = studio.face(shot.person, studio.conditions(*stream))
        files.append(file)
    return files


def _write_set(
    folder: Path,
    name: str,
    studio: Studio,
    size: SampleSize,
    crew: Crew,
    drawn: Callable[[], None],
) -> VerificationTruth:
    first = people_count(size)
    people = range(first, first + size.verification_people)
    files: dict[PhotoKey, bytes] = {}
    for photographs in crew(partial(photograph_person, studio, name), people):
        files |= photographs
        for _ in photographs:
            drawn()
    rng = studio.random(VERIFICATION, SETS.index(name))
    pairs = choose_pairs(name, people, size, rng)
    images = [files[place] for pair in pairs for place in pair]
    shown = tuple((left[0], right[0]) for left, right in pairs)
    write_pairs(folder / f"{name}.bin", images, [left == right for left, right in shown])
    return VerificationTruth(name=name, people=shown)
