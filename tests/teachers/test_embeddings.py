"""The cache says exactly what the teacher says, and survives everything."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from curation.errors import UserError
from curation.images import decode
from curation.views import View, write_view
from distill.backbones import create
from teachers import embeddings
from teachers.embedder import TorchEmbedder, embed_both, module_digest, unit_and_norm
from teachers.embeddings import cache_digest, cache_embeddings
from teachers.filling import AHEAD, Pictures
from teachers.preprocessing import Preprocessing


def make_teacher(seed=0, size=(32, 32)):
    torch.manual_seed(seed)
    network = create("mobilefacenet", embedding=16, input_size=size, width=0.125)
    return TorchEmbedder(network, Preprocessing(size=size), module_digest(network))


def computed(cache):
    """The blocks that are in the cache."""
    return np.flatnonzero(cache.table.entries).tolist()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", 10)


def test_the_cache_holds_what_the_teacher_says_upright_and_mirrored(drawn_store, tmp_path):
    teacher = make_teacher()
    cache = cache_embeddings(teacher, drawn_store, tmp_path)
    for index in (0, 17, len(drawn_store) - 1):
        picture = decode(drawn_store.read(index))
        for mirrored, pixels in enumerate([picture, picture[:, ::-1]]):
            raw = teacher.embed(np.ascontiguousarray(pixels)[None])[0]
            norm = np.linalg.norm(raw)
            assert np.abs(cache.unit[index, mirrored] - raw / norm).max() < 1e-3
            assert cache.norm[index, mirrored] == pytest.approx(norm, rel=1e-4)


def test_float16_costs_next_to_nothing_in_cosine():
    random = np.random.default_rng(0)
    raw = random.normal(size=(300, 512))
    unit, _ = unit_and_norm(raw)
    exact = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    stored = unit.astype(np.float64)
    cosines = (stored * exact).sum(1) / np.linalg.norm(stored, axis=1)
    assert (1 - cosines).max() < 1e-7


def test_a_second_call_computes_nothing(drawn_store, tmp_path):
    cache_embeddings(make_teacher(), drawn_store, tmp_path)
    calls = []
    cache_embeddings(make_teacher(), drawn_store, tmp_path, lambda *done: calls.append(done))
    assert calls == []


def test_a_view_fills_only_the_blocks_it_needs_and_the_store_completes_them(drawn_store, tmp_path):
    rows = np.arange(12, 18)
    path = tmp_path / "some.view"
    write_view(path, drawn_store, rows, np.zeros(6, np.int32), "test", {})
    totals = set()
    first = cache_embeddings(
        make_teacher(), View(path), tmp_path / "cache", lambda done, total: totals.add(total)
    )
    assert totals == {1}
    assert computed(first) == [1]
    whole = cache_embeddings(make_teacher(), drawn_store, tmp_path / "cache")
    assert whole.folder == first.folder
    assert computed(whole) == [0, 1, 2, 3, 4]


def test_another_teacher_preprocessing_or_store_is_another_cache(drawn_store, tmp_path):
    digests = {
        cache_digest(teacher, drawn_store)
        for teacher in (make_teacher(0), make_teacher(1), make_teacher(0, size=(48, 48)))
    }
    assert len(digests) == 3


def flip_bit(path, position):
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("name", ["unit.npy", "norm.npy", "blocks.npy"])
def test_a_flipped_bit_anywhere_is_found(drawn_store, tmp_path, name):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    size = (cache.folder / name).stat().st_size
    for position in np.random.default_rng(0).integers(128, size, 5).tolist():
        flip_bit(cache.folder / name, position)
        with pytest.raises(UserError, match="damaged in rows"):
            cache_embeddings(make_teacher(), drawn_store, tmp_path)
        flip_bit(cache.folder / name, position)


def test_a_block_that_was_written_but_not_entered_is_computed_again(drawn_store, tmp_path):
    """What a process killed between the two leaves."""
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    table = np.load(cache.folder / "blocks.npy", mmap_mode="r+")
    table[3] = 0
    calls = []
    again = cache_embeddings(
        make_teacher(), drawn_store, tmp_path, lambda *done: calls.append(done)
    )
    assert calls[-1] == (1, 1)
    assert computed(again) == [0, 1, 2, 3, 4]


def test_a_cache_whose_files_were_not_all_made_is_made_anew(drawn_store, tmp_path):
    whole = cache_embeddings(make_teacher(), drawn_store, tmp_path / "whole")
    folder = tmp_path / "cut" / whole.folder.name
    folder.mkdir(parents=True)
    (folder / "unit.npy").write_bytes((whole.folder / "unit.npy").read_bytes()[:1000])
    cut = cache_embeddings(make_teacher(), drawn_store, tmp_path / "cut")
    assert np.array_equal(cut.unit, whole.unit)


def test_a_teacher_that_is_not_finite_is_refused(drawn_store, tmp_path):
    teacher = make_teacher()
    teacher.module.embedding[1].bias.data[0] = float("nan")
    with pytest.raises(UserError, match="image 0 is zero or not finite"):
        cache_embeddings(teacher, drawn_store, tmp_path)


FILLS = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from curation.views import open_images
from teachers import embeddings
from test_embeddings import make_teacher
embeddings.BLOCK = 2
teacher = make_teacher()
embed = teacher.embed
def slow(images):
    time.sleep(float(sys.argv[4]))
    return embed(images)
teacher.embed = slow
def report(done, total):
    sys.stdout.write(f"{done}\\n"); sys.stdout.flush()
images = open_images(Path(sys.argv[1]))
embeddings.cache_embeddings(teacher, images, Path(sys.argv[2]), report)
"""
"""Blocks of two images, 24 of them."""


def start(store, root, pause):
    here = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, "-c", FILLS, str(store.path), str(root), here, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(process, done):
    """Until so many blocks are there, and the process has entered one of its own."""
    process.stdout.readline()
    process.stdout.readline()
    while int(process.stdout.readline()) < done:
        pass


@pytest.fixture(scope="module")
def undisturbed(drawn_store, tmp_path_factory):
    """What a single process that nobody stops makes."""
    return cache_embeddings(make_teacher(), drawn_store, tmp_path_factory.mktemp("undisturbed"))


def assert_equal(cache, other):
    """To the rounding: a network's sums depend on the size of its batch."""
    assert np.abs(cache.unit.astype(np.float32) - other.unit).max() < 1e-3
    assert np.allclose(cache.norm, other.norm, rtol=1e-4)


def test_two_processes_share_a_cache_and_one_takes_over_what_a_killed_one_had_begun(
    drawn_store, tmp_path, undisturbed
):
    totals, teacher = [], make_teacher()
    with start(drawn_store, tmp_path, 0.2) as slow:
        wait_for(slow, 2)
        (folder,) = tmp_path.iterdir()

        def kill_it_near_the_end(done, total):
            totals.append(total)
            if done >= total - AHEAD - 1 and slow.poll() is None:
                # What is left is what it has claimed: nobody else can finish.
                slow.send_signal(signal.SIGKILL)

        cache = cache_embeddings(teacher, drawn_store, tmp_path, kill_it_near_the_end)
    assert slow.returncode == -signal.SIGKILL
    assert cache.folder == folder
    assert totals[0] <= 22  # the rest was there
    assert_equal(cache, undisturbed)


def test_a_killed_process_leaves_whole_blocks_to_go_on_from(drawn_store, tmp_path, undisturbed):
    with start(drawn_store, tmp_path, 0.05) as process:
        wait_for(process, 5)
        process.send_signal(signal.SIGKILL)
    left = []
    resumed = cache_embeddings(make_teacher(), drawn_store, tmp_path, lambda _, n: left.append(n))
    assert left[0] <= 24 - 5
    assert_equal(resumed, undisturbed)


def test_helpers_do_a_part_of_the_work(drawn_store, tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", 2)
    monkeypatch.setattr(TorchEmbedder, "__reduce__", lambda self: (make_teacher, ()))
    teacher = make_teacher()
    embed, seen, deadline = teacher.embed, [], time.monotonic() + 120

    def after_the_helper(images):
        """Nothing is said before the helper has computed a block."""
        (table,) = tmp_path.glob("*/blocks.npy")
        while not np.load(table).any():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        seen.append(len(images))
        return embed(images)

    monkeypatch.setattr(teacher, "embed", after_the_helper)
    cache = cache_embeddings(teacher, drawn_store, tmp_path, helpers=1)
    assert 0 < sum(seen) < 2 * len(drawn_store)
    assert_equal(cache, undisturbed)


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_a_network_in_another_process_says_the_same(colour):
    torch.manual_seed(0)
    network = create("mobilefacenet", embedding=16, input_size=(32, 32), width=0.125)
    preprocessing = Preprocessing(colour=colour, mean=(1.0, 2.0, 3.0), std=128.0, size=(32, 32))
    teacher = TorchEmbedder(network, preprocessing, "x")
    copy = pickle.loads(pickle.dumps(teacher))
    pictures = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    assert (copy.digest, copy.preprocessing) == ("x", preprocessing)
    assert np.array_equal(copy.embed(pictures), teacher.embed(pictures))


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_the_device_makes_the_same_pixels_as_the_preprocessing(colour):
    network = create("mobilefacenet", embedding=16, input_size=(32, 32), width=0.125)
    preprocessing = Preprocessing(colour=colour, mean=(1.0, 2.0, 3.0), std=128.0, size=(32, 32))
    pictures = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    pixels = TorchEmbedder(network, preprocessing, "x").pixels(pictures)
    assert np.array_equal(pixels.numpy(), preprocessing(pictures))


def test_few_blocks_are_in_memory_at_once(drawn_store, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", 1)
    waiting, most = set(), 0
    load, embed = Pictures.load, Pictures.embed

    def counted_load(self, rows):
        waiting.add(rows.start)
        return load(self, rows)

    def counted_embed(self, loaded):
        nonlocal most
        time.sleep(0.01)  # for the threads that read ahead
        most = max(most, len(waiting))
        waiting.discard(min(waiting))
        return embed(self, loaded)

    monkeypatch.setattr(Pictures, "load", counted_load)
    monkeypatch.setattr(Pictures, "embed", counted_embed)
    cache_embeddings(make_teacher(), drawn_store, tmp_path)
    assert most == AHEAD


def test_a_full_disk_is_one_line(drawn_store, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"No space left.*unit.npy takes.*free some space"):
        cache_embeddings(make_teacher(), drawn_store, tmp_path)


def test_both_embeds_the_picture_and_its_mirror_image():
    teacher = make_teacher()
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    both = embed_both(teacher, pictures)
    swapped = embed_both(teacher, pictures[:, :, ::-1])
    assert both.shape == (3, 2, 16)
    assert np.allclose(both[:, 0], swapped[:, 1], atol=1e-5)
