"""The data path: which images are in which batch, decoded, mirrored and shared among ranks."""

import hashlib
import multiprocessing
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import psutil
import pytest

from curation.errors import UserError
from curation.images import decode, encode_jpeg
from curation.view_writing import write_view
from distill.training.config import TrainSettings
from distill.training.data import BatchLoader, Shard
from distill.training.decoding import decode_into
from distill.training.plan import create_plan
from distill.training.read_ahead import sequential_runs
from distill.training.shuffles import FullShuffle, WindowedShuffle
from teachers.preprocessing import Preprocessing
from tests.conftest import IDENTITIES, IMAGES_EACH, draw

SIZE = Preprocessing.ours((48, 48))
IMAGES = IDENTITIES * IMAGES_EACH


def make_plan(kind, images=IMAGES, batch_size=12, seed=0, window=16, chunk=4):
    if kind == "full":
        return FullShuffle(images, batch_size, seed)
    return WindowedShuffle(np.arange(images), batch_size, seed, window, chunk)


both_shuffles = pytest.mark.parametrize("shuffle", ["full", "windowed"])


@both_shuffles
def test_an_epoch_shows_every_image_once_and_mirrors_half(shuffle):
    plan = make_plan(shuffle, images=1003, batch_size=10, window=100)
    order, mirrored = plan.epoch(3)
    assert sorted(order) == list(range(1003))
    assert 400 < mirrored.sum() < 600
    assert plan.steps_per_epoch == 100


@both_shuffles
def test_seed_and_epoch_alone_determine_the_order(shuffle):
    first, again = (make_plan(shuffle, images=1000, seed=5).epoch(2) for _ in range(2))
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))
    for other in (make_plan(shuffle, images=1000, seed=5).epoch(3), make_plan(shuffle).epoch(2)):
        assert not np.array_equal(first[0][:40], other[0][:40])


def test_a_window_is_read_in_few_runs_of_the_store():
    rows = np.random.default_rng(0).permutation(np.arange(0, 4000, 2))  # an unordered view
    windowed = WindowedShuffle(rows, 10, seed=0, window=200, chunk=20)
    for epoch in range(3):
        order, _ = windowed.epoch(epoch)
        for begin in range(0, 2000, 200):
            window = rows[order[begin : begin + 200]]
            # Ten chunks, two of them cut by the window's ends, and the epoch's two short ones.
            assert len(sequential_runs(window, gap=1)) <= 13
    order, _ = FullShuffle(2000, 10, seed=0).epoch(0)
    assert len(sequential_runs(rows[order[:200]], gap=1)) > 150


def test_chunks_are_cut_elsewhere_in_every_epoch():
    plan = WindowedShuffle(np.arange(400), 10, seed=0, window=20, chunk=20)
    starts = {min(plan.epoch(epoch)[0][20:40]) % 20 for epoch in range(20)}
    assert len(starts) > 5


def test_a_batch_of_the_windowed_shuffle_mixes_identities():
    """20,000 images in identities of 50: a window of 64 chunks holds at least 80 of them."""
    labels = np.arange(20_000) // 50
    plan = WindowedShuffle(np.arange(20_000), 128, seed=0, window=4096)
    order, _ = plan.epoch(0)
    identities = [len(set(labels[order[k : k + 128]])) for k in range(0, 19_840, 128)]
    assert np.mean(identities[:100]) > 70


def test_sequential_runs_step_over_small_gaps():
    rows = np.array([7, 1, 2, 30, 4, 31])
    assert sequential_runs(rows, gap=2) == [(1, 7), (30, 31)]
    assert sequential_runs(rows, gap=0) == [(1, 2), (4, 4), (7, 7), (30, 31)]
    assert sequential_runs(rows[:1]) == [(7, 7)]


def test_the_settings_choose_the_plan(drawn_store):
    full = create_plan(drawn_store, TrainSettings(batch_size=8, seed=3))
    assert full == FullShuffle(IMAGES, 8, 3)
    windowed = create_plan(
        drawn_store, TrainSettings(batch_size=8, shuffle="windowed", shuffle_window=24)
    )
    assert windowed.read_ahead == 24


def test_a_batch_larger_than_the_data_set_is_refused(drawn_store):
    with pytest.raises(
        UserError, match=r"^train\.batch_size: 100 is above 48, the number of images"
    ):
        create_plan(drawn_store, TrainSettings(batch_size=100))


@both_shuffles
def test_batches_from_the_middle_are_those_of_the_whole_run(drawn_store, shuffle):
    plan = make_plan(shuffle, batch_size=10)
    with BatchLoader(drawn_store, SIZE, plan) as loader:
        whole = list(loader.batches(0, 10))
        later = list(loader.batches(6, 10))
    assert len(whole) == 10
    for left, right in zip(whole[6:], later, strict=True):
        assert np.array_equal(left.pixels, right.pixels)
        assert np.array_equal(left.labels, right.labels)


@both_shuffles
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_shards_put_together_are_the_global_batch(drawn_store, shuffle, ranks):
    plan = make_plan(shuffle)
    whole = list(BatchLoader(drawn_store, SIZE, plan).batches(3, 6))
    shards = [
        list(BatchLoader(drawn_store, SIZE, plan, shard=Shard(rank, ranks)).batches(3, 6))
        for rank in range(ranks)
    ]
    for step, batch in enumerate(whole):
        parts = [shard[step] for shard in shards]
        assert {len(part.pixels) for part in parts} == {12 // ranks}
        assert np.array_equal(np.concatenate([part.pixels for part in parts]), batch.pixels)
        assert np.array_equal(np.concatenate([part.labels for part in parts]), batch.labels)


def test_a_batch_that_ranks_cannot_share_is_refused(drawn_store):
    with pytest.raises(
        UserError, match=r"^train\.batch_size is 12, .* by 5 processes; allowed: mul"
    ):
        BatchLoader(drawn_store, SIZE, make_plan("full"), shard=Shard(0, 5))


@pytest.mark.parametrize("size", [(48, 48), (32, 32), (64, 56)])
def test_images_are_mirrored_and_then_resized(drawn_store, size):
    preprocessing, plan = Preprocessing.ours(size), make_plan("full")
    order, mirrored = plan.epoch(0)
    batch = next(BatchLoader(drawn_store, preprocessing, plan).batches(0, 1))
    assert 0 < mirrored[:12].sum() < 12
    for position, (index, flip) in enumerate(zip(order[:12], mirrored[:12], strict=True)):
        picture = decode(drawn_store.read(int(index)))
        seen = np.ascontiguousarray(picture[:, ::-1]) if flip else picture
        assert np.array_equal(batch.pixels[position], preprocessing.resize(seen[None])[0])
        assert batch.labels[position] == index // IMAGES_EACH


def test_a_view_gives_its_own_images_and_labels(drawn_store, tmp_path):
    rows, labels = np.array([40, 41, 3, 9, 2, 30]), np.array([0, 0, 0, 1, 1, 2])
    view = write_view(tmp_path / "some.view", drawn_store, rows, labels, "chosen", {})
    plan = WindowedShuffle(view.rows, 6, seed=0, window=4, chunk=2)
    batch = next(BatchLoader(view, SIZE, plan).batches(0, 1))
    _, mirrored = plan.epoch(0)
    for pixels, index, label, flip in zip(
        batch.pixels, batch.indices, batch.labels, mirrored, strict=True
    ):
        assert label == labels[index]
        upright = pixels[:, ::-1] if flip else pixels
        assert np.array_equal(upright, decode(drawn_store.read(int(rows[index]))))


def as_jpeg(picture, *options):
    return cv2.imencode(".jpg", picture, options)[1].tobytes()


def turned(jpeg):
    """With an EXIF segment that says: rotate by 90 degrees."""
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


PICTURE = draw(0, 0)
FILES = {
    "usual": encode_jpeg(PICTURE),
    "4:4:4": as_jpeg(
        PICTURE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    ),
    "progressive": as_jpeg(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "without its end": encode_jpeg(PICTURE)[:-2],
    "grey": as_jpeg(PICTURE[..., 0]),
    "turned by EXIF": turned(encode_jpeg(PICTURE)),
    "PNG": cv2.imencode(".png", PICTURE)[1].tobytes(),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_file_has_the_pixels_of_the_one_decoder(kind, mirrored):
    batch = np.zeros((3, 48, 48, 3), np.uint8)
    decode_into(batch[1], FILES[kind], mirrored)
    expected = decode(FILES[kind])
    assert np.array_equal(batch[1], expected[:, ::-1] if mirrored else expected)
    assert not batch[0].any()
    assert not batch[2].any()


def test_an_image_of_another_size_is_named():
    target = np.zeros((40, 48, 3), np.uint8)
    with pytest.raises(UserError, match=r"^image 7 is 48x48 pixels in a store of 40x48; "):
        decode_into(target, FILES["usual"], False, "image 7")
    with pytest.raises(UserError, match=r"^image 7 is 48x48 pixels in a store of 64x48; "):
        decode_into(np.zeros((64, 48, 3), np.uint8), FILES["usual"], False, "image 7")


class Reading:
    """A store with a different read method."""

    def __init__(self, store, read):
        self._store, self._read = store, read

    def read_many(self, indices):
        return map(self._read, indices.tolist())

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_damaged_image_is_named_and_the_loader_continues(drawn_store):
    plan = make_plan("full")
    bad = int(plan.epoch(0)[0][14])
    broken = Reading(drawn_store, lambda i: drawn_store.read(i)[: 200 if i == bad else None])
    with BatchLoader(broken, SIZE, plan) as loader:
        with pytest.raises(UserError, match=rf"image {bad} \(key {bad + 1}\): .* damaged"):
            list(loader.batches(0, 3))
        assert len(list(loader.batches(2, 4))) == 2


def test_waiting_for_data_is_counted_without_other_work(drawn_store):
    slow = Reading(drawn_store, lambda i: time.sleep(0.005) or drawn_store.read(i))
    with BatchLoader(slow, SIZE, make_plan("full"), threads=1) as loader:
        for _ in loader.batches(0, 5):
            pass
        idle = loader.waited_seconds
        assert idle > 5 * 12 * 0.005
        began = time.monotonic()
        for _ in loader.batches(0, 5):
            time.sleep(0.1)
        assert loader.waited_seconds - idle < time.monotonic() - began - 5 * 0.1


def digest_of_batches(loader, answer):
    content = hashlib.sha256()
    for batch in loader.batches(2, 6):
        content.update(batch.pixels.tobytes())
    answer.put(content.hexdigest())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12, about threads
@pytest.mark.parametrize("start", ["fork", "spawn"])
@both_shuffles
def test_another_process_reads_the_same_batches(drawn_store, start, shuffle):
    """Even if this process has read before, so that the store is open and threads are running."""
    context = multiprocessing.get_context(start)
    loader, answer = BatchLoader(drawn_store, SIZE, make_plan(shuffle)), context.Queue()
    if start == "fork":
        next(loader.batches(0, 1))
    child = context.Process(target=digest_of_batches, args=(loader, answer))
    child.start()
    theirs = answer.get(timeout=60)
    child.join()
    digest_of_batches(loader, answer)
    assert answer.get(timeout=60) == theirs


@both_shuffles
def test_memory_stays_flat(drawn_store, shuffle):
    """200 batches of 1.4 MB."""
    plan, process = make_plan(shuffle, batch_size=48), psutil.Process()
    with BatchLoader(drawn_store, Preprocessing.ours((96, 96)), plan) as loader:
        batches = loader.batches(0, 230)
        for _ in range(30):
            next(batches)
        before = process.memory_info().rss
        for _ in batches:
            pass
        assert process.memory_info().rss - before < 20 << 20


COLD_READ = """
import os, resource, sys, time
from curation.store import Store
store = Store(sys.argv[1])
if sys.argv[2] == "ahead":
    store.read_ahead(0, len(store) - 1)
    time.sleep(0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
for i in range(len(store)):
    store.read(i)
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the hint is for Linux")
def test_read_ahead_brings_the_files_in_before_they_are_needed(drawn_folder, tmp_path):
    from curation.conversion.convert import convert

    path = convert(drawn_folder, tmp_path / "cold.lmdb").path

    def waits_for_the_disk(how):
        with (path / "data.mdb").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        command = [sys.executable, "-c", COLD_READ, str(path), how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    unaided = waits_for_the_disk("not")
    if unaided == 0:
        pytest.skip("the page cache of this file system cannot be emptied")
    assert waits_for_the_disk("ahead") < unaided / 4
