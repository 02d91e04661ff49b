"""The cache says exactly what the teacher says, and survives everything."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from curation.errors import UserError
from curation.images import decode
from curation.views import View, write_view
from distill.backbones import create
from teachers import embeddings
from teachers.embedder import TorchEmbedder, module_digest
from teachers.embeddings import cache_digest, cache_embeddings, embed_both, unit_and_norm
from teachers.preprocessing import Preprocessing


def make_teacher(seed=0, size=(32, 32)):
    import torch

    torch.manual_seed(seed)
    network = create("mobilefacenet", embedding=16, input_size=size, width=0.125)
    return TorchEmbedder(network, Preprocessing(size=size), module_digest(network))


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
    computed = []
    first = cache_embeddings(
        make_teacher(), View(path), tmp_path / "cache", lambda done, total: computed.append(total)
    )
    assert computed == [1]
    assert set(first.done) == {1}
    whole = cache_embeddings(make_teacher(), drawn_store, tmp_path / "cache")
    assert whole.folder == first.folder
    assert set(whole.done) == set(range(5))


def test_another_teacher_preprocessing_or_store_is_another_cache(drawn_store, tmp_path):
    digests = {
        cache_digest(teacher, drawn_store)
        for teacher in (make_teacher(0), make_teacher(1), make_teacher(0, size=(48, 48)))
    }
    assert len(digests) == 3


def test_a_flipped_byte_is_found(drawn_store, tmp_path):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    with (cache.folder / "unit.npy").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(UserError, match="damaged in rows"):
        cache_embeddings(make_teacher(), drawn_store, tmp_path)


def test_a_torn_last_line_of_the_record_is_computed_again(drawn_store, tmp_path):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    record = cache.folder / "blocks.jsonl"
    record.write_bytes(record.read_bytes()[:-9])
    totals = []
    again = cache_embeddings(make_teacher(), drawn_store, tmp_path, lambda _, n: totals.append(n))
    assert totals == [1]
    assert len(again.done) == 5
    assert all(json.loads(line) for line in record.read_text().splitlines())


def test_a_teacher_that_is_not_finite_is_refused(drawn_store, tmp_path):
    teacher = make_teacher()
    teacher.module.embedding[1].bias.data[0] = float("nan")
    with pytest.raises(UserError, match="image 0 is zero or not finite"):
        cache_embeddings(teacher, drawn_store, tmp_path)


SLOW_TEACHER = """
import sys, time
from pathlib import Path
from curation.views import open_images
from teachers import embeddings
sys.path.insert(0, sys.argv[3])
from test_embeddings import make_teacher
embeddings.BLOCK = 10
def report(done, total):
    sys.stdout.write(f"{done}\\n"); sys.stdout.flush(); time.sleep(0.2)
images = open_images(Path(sys.argv[1]))
embeddings.cache_embeddings(make_teacher(), images, Path(sys.argv[2]), report)
"""


def test_killed_in_the_middle_it_goes_on_from_the_last_block(drawn_store, tmp_path):
    folder = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, "-c", SLOW_TEACHER, str(drawn_store.path), str(tmp_path), folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        assert process.stdout.readline() == "2\n"
        process.send_signal(signal.SIGKILL)
    time.sleep(0.1)
    left = []
    resumed = cache_embeddings(make_teacher(), drawn_store, tmp_path, lambda _, n: left.append(n))
    assert left[0] <= 3
    fresh = cache_embeddings(make_teacher(), drawn_store, tmp_path / "fresh")
    assert np.array_equal(resumed.unit, fresh.unit)
    assert np.array_equal(resumed.norm, fresh.norm)


def test_both_embeds_the_picture_and_its_mirror_image():
    teacher = make_teacher()
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    both = embed_both(teacher, pictures)
    swapped = embed_both(teacher, pictures[:, :, ::-1])
    assert both.shape == (3, 2, 16)
    assert np.allclose(both[:, 0], swapped[:, 1], atol=1e-5)
