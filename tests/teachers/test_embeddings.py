"""The cache returns exactly the teacher's embeddings, and survives every kind of failure."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from small_teacher import make_teacher, some_rows

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import count_together, decode, encode_jpeg
from curation.records.layout_writer import write_layout
from distill.backbones import create
from teachers import embedding_cache, embeddings
from teachers.embedder import TorchEmbedder, embed_both, unit_and_norm
from teachers.embedding_cache import EmbeddingCache
from teachers.embeddings import cache_digest, cache_embeddings
from teachers.filling import AHEAD, Pictures
from teachers.preprocessing import Preprocessing
from teachers.row_table import checksums


def computed(cache):
    """The rows that are in the cache."""
    return np.flatnonzero(cache.table.entries).tolist()


@pytest.fixture(autouse=True)
def small_claims(monkeypatch):
    monkeypatch.setattr(embeddings, "CLAIM", 10)
    monkeypatch.setattr(embedding_cache, "_TOGETHER", 4)


def test_the_cache_holds_embeddings_upright_and_mirrored(drawn_store, tmp_path):
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


@pytest.mark.parametrize("rows", [[12, 13, 14, 15], [0, 9, 10, 31, 47], [47, 3, 20], [5, 5, 6]])
def test_a_view_fills_its_rows_and_the_store_the_rest(drawn_store, tmp_path, rows):
    view = some_rows(drawn_store, tmp_path / "some.view", rows)
    calls = []
    first = cache_embeddings(
        make_teacher(), view, tmp_path / "cache", lambda *call: calls.append(call)
    )
    assert calls[-1] == (len(set(rows)), len(set(rows)))
    assert computed(first) == sorted(set(rows))
    before = first.unit[rows].copy()
    whole = cache_embeddings(make_teacher(), drawn_store, tmp_path / "cache")
    assert whole.folder == first.folder
    assert computed(whole) == list(range(len(drawn_store)))
    np.testing.assert_array_equal(whole.unit[rows], before)


def test_sparse_rows_go_through_the_network_in_whole_batches(drawn_store, tmp_path):
    rows = np.arange(0, 48, 3)
    teacher, sizes = make_teacher(), []
    embed = teacher.embed
    teacher.embed = lambda images: (sizes.append(len(images)), embed(images))[1]
    cache_embeddings(teacher, some_rows(drawn_store, tmp_path / "some.view", rows), tmp_path / "c")
    assert sizes == [10, 10, 6, 6]  # upright and mirrored


def damaged_store(folder, bad):
    """48 images; those numbered in ``bad`` are truncated. Keys begin at 1."""
    pictures = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    files = [encode_jpeg(picture) for picture in pictures]
    images = [(file[:-300] if i in bad else file, i // 6) for i, file in enumerate(files)]
    write_layout(folder / "source", images, (32, 32))
    return convert(folder / "source", folder / "train.lmdb")


def test_damaged_images_outside_a_view_do_not_matter_to_it(tmp_path):
    store = damaged_store(tmp_path, {3, 20, 41})
    kept = [row for row in range(48) if row not in {3, 20, 41}]
    cache = cache_embeddings(
        make_teacher(), some_rows(store, tmp_path / "whole.view", kept), tmp_path / "cache"
    )
    assert computed(cache) == kept


def test_a_damaged_image_is_named_by_its_key_with_what_to_do(tmp_path):
    store = damaged_store(tmp_path, {20})
    with pytest.raises(UserError) as found:
        cache_embeddings(make_teacher(), store, tmp_path / "cache")
    message = str(found.value)
    assert f"image 20 (key {store.source_keys[20]}): the image is damaged: it ends early" in message
    assert "`curate verify" in message
    assert "`curate view drop --by key`" in message
    assert "\n" not in message


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


@pytest.mark.parametrize("name", ["unit.npy", "norm.npy", "rows.npy"])
def test_a_flipped_bit_anywhere_is_found(drawn_store, tmp_path, name):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    size = (cache.folder / name).stat().st_size
    for position in np.random.default_rng(0).integers(128, size, 5).tolist():
        flip_bit(cache.folder / name, position)
        with pytest.raises(UserError, match=r"is damaged: row \d+ has changed; delete the folder"):
            cache_embeddings(make_teacher(), drawn_store, tmp_path)
        flip_bit(cache.folder / name, position)


def test_rows_written_but_not_entered_are_computed_again(drawn_store, tmp_path):
    """The result of killing a process between the two."""
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    table = np.load(cache.folder / "rows.npy", mmap_mode="r+")
    table[3] = table[30] = 0
    calls = []
    again = cache_embeddings(
        make_teacher(), drawn_store, tmp_path, lambda *done: calls.append(done)
    )
    assert calls[-1] == (2, 2)
    assert computed(again) == list(range(48))


def test_a_cache_whose_files_were_not_all_made_is_made_again(drawn_store, tmp_path):
    whole = cache_embeddings(make_teacher(), drawn_store, tmp_path / "whole")
    folder = tmp_path / "cut" / whole.folder.name
    folder.mkdir(parents=True)
    (folder / "unit.npy").write_bytes((whole.folder / "unit.npy").read_bytes()[:1000])
    cut = cache_embeddings(make_teacher(), drawn_store, tmp_path / "cut")
    assert np.array_equal(cut.unit, whole.unit)


def header(kind, shape):
    return f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}"


def npy(text):
    packed = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\0" + len(packed).to_bytes(2, "little") + packed


DAMAGES = {
    "not JSON": ("cache.json", b"{"),
    "no UTF-8": ("cache.json", b"\xff\xfe"),
    "another number": ("cache.json", b'{"size": [64, \xc2\xb2]}'),
    "an earlier version's": ("cache.json", b'{"teacher": "1", "images": 48, "block": 256}'),
    "a large file": ("cache.json", bytes(2 << 20)),
    "an empty array": ("unit.npy", b""),
    "a cut header": ("norm.npy", npy("{'descr': '<f4', 'shape': (")),
    "a huge shape": ("rows.npy", npy(header("<u4", (2**70,)))),
    "a shape of 10^15": ("rows.npy", npy(header("<u4", (10**15,)))),
    "a negative shape": ("unit.npy", npy(header("<f2", (-48, 2, 16)))),
    "another type": ("rows.npy", npy(header("<u8", (48,))) + bytes(48 * 8)),
    "objects": ("unit.npy", npy(header("|O", (48, 2, 16))) + bytes(48 * 2 * 16 * 8)),
    "another shape": ("norm.npy", npy(header("<f4", (47, 2))) + bytes(47 * 8)),
    "a zip file": ("norm.npy", b"PK\x03\x04" + bytes(100)),
    "a short file": ("unit.npy", npy(header("<f2", (48, 2, 16))) + bytes(10)),
    "a deep expression": ("norm.npy", npy("(" * 9000)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_are_not_those_of_a_cache_are_one_line(drawn_store, tmp_path, damage):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    name, content = DAMAGES[damage]
    (cache.folder / name).write_bytes(content)
    for use in (
        lambda: cache_embeddings(make_teacher(), drawn_store, tmp_path),
        lambda: EmbeddingCache(cache.folder),
    ):
        with pytest.raises(UserError, match=r"is damaged: .*; delete the folder") as found:
            use()
        assert "\n" not in str(found.value)
    assert (cache.folder / name).read_bytes() == content


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(drawn_store, tmp_path):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    for name in ("rows.npy", "cache.json"):
        (cache.folder / name).unlink()
        os.mkfifo(cache.folder / name)
        with pytest.raises(UserError, match="named pipe"):
            cache_embeddings(make_teacher(), drawn_store, tmp_path)


@pytest.mark.parametrize("name", ["claims", "lock"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_a_file_that_is_only_locked_is_checked_too(drawn_store, tmp_path, name, kind):
    folder = tmp_path / "cache" / cache_digest(make_teacher(), drawn_store)
    folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    match kind:
        case "pipe":
            os.mkfifo(folder / name)
        case "folder":
            (folder / name).mkdir()
        case "link":
            (folder / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=rf"is damaged: {name} .*; delete the folder"):
        cache_embeddings(make_teacher(), drawn_store, tmp_path / "cache")
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["cache", "unit.npy"])
def test_something_else_in_the_place_of_the_folder_or_a_file(drawn_store, tmp_path, name):
    digest = cache_digest(make_teacher(), drawn_store)
    if name == "cache":
        (tmp_path / digest).write_text("")
    else:
        (tmp_path / digest / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"cannot write the embedding cache .*{digest}"):
        cache_embeddings(make_teacher(), drawn_store, tmp_path)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("unit", np.nan),
        ("unit", -np.inf),
        ("unit", 1.5),
        ("norm", np.nan),
        ("norm", -1),
        ("norm", 0),
    ],
)
def test_impossible_vectors_are_refused_despite_checksums(drawn_store, tmp_path, name, number):
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path)
    arrays = {each: np.load(cache.folder / f"{each}.npy") for each in ("unit", "norm", "rows")}
    arrays[name][7].flat[0] = number
    arrays["rows"][7] = checksums(arrays["unit"][[7]], arrays["norm"][[7]])[0]
    for each, array in arrays.items():
        np.save(cache.folder / f"{each}.npy", array)
    with pytest.raises(UserError, match="it has rows that are not unit vectors; delete the folder"):
        cache_embeddings(make_teacher(), drawn_store, tmp_path)


def test_the_cache_of_another_teacher_under_this_name_is_refused(drawn_store, tmp_path):
    mine = cache_embeddings(make_teacher(0), drawn_store, tmp_path / "mine")
    other = cache_embeddings(make_teacher(1), drawn_store, tmp_path / "other")
    (mine.folder / "cache.json").write_bytes((other.folder / "cache.json").read_bytes())
    with pytest.raises(UserError, match=r"cache.json belongs to another cache"):
        cache_embeddings(make_teacher(0), drawn_store, tmp_path / "mine")


def test_a_teacher_that_is_not_finite_is_refused(drawn_store, tmp_path):
    teacher = make_teacher()
    teacher.module.embedding[1].bias.data[0] = float("nan")
    with pytest.raises(UserError, match=r"image 0 \(key \d+\): .* of it is zero or not finite"):
        cache_embeddings(teacher, drawn_store, tmp_path)


FILLS = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from curation.views import open_images
from teachers import embeddings
from small_teacher import make_teacher
embeddings.CLAIM = 2
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
"""24 batches of two images."""


def start(store, root, pause):
    here = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, "-c", FILLS, str(store.path), str(root), here, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(process, done):
    """Wait until this many images are done, including one by the process itself."""
    process.stdout.readline()
    process.stdout.readline()
    while int(process.stdout.readline()) < done:
        pass


@pytest.fixture(scope="module")
def undisturbed(drawn_store, tmp_path_factory):
    """The result of a single uninterrupted process."""
    return cache_embeddings(make_teacher(), drawn_store, tmp_path_factory.mktemp("undisturbed"))


def assert_equal(cache, other):
    """Equal up to rounding: a network's sums depend on its batch size."""
    assert np.abs(cache.unit.astype(np.float32) - other.unit).max() < 1e-3
    assert np.allclose(cache.norm, other.norm, rtol=1e-4)


def test_a_process_takes_over_the_rows_of_a_killed_one(drawn_store, tmp_path, undisturbed):
    totals, teacher = [], make_teacher()
    with start(drawn_store, tmp_path, 0.2) as slow:
        wait_for(slow, 4)
        (folder,) = tmp_path.iterdir()

        def kill_it_near_the_end(done, total):
            totals.append(total)
            if done >= total - 2 * (AHEAD + 1) and slow.poll() is None:
                # The rest is what it has claimed: no other process can finish.
                slow.send_signal(signal.SIGKILL)

        cache = cache_embeddings(teacher, drawn_store, tmp_path, kill_it_near_the_end)
    assert slow.returncode == -signal.SIGKILL
    assert cache.folder == folder
    assert totals[0] <= 44  # the rest was there
    assert_equal(cache, undisturbed)


def test_a_killed_process_leaves_rows_to_resume_from(drawn_store, tmp_path, undisturbed):
    with start(drawn_store, tmp_path, 0.05) as process:
        wait_for(process, 10)
        process.send_signal(signal.SIGKILL)
    left = []
    resumed = cache_embeddings(make_teacher(), drawn_store, tmp_path, lambda _, n: left.append(n))
    assert left[0] <= 48 - 10
    assert_equal(resumed, undisturbed)


def test_four_processes_fill_a_cache_and_one_of_them_is_killed(drawn_store, tmp_path, undisturbed):
    with ExitStack() as ended:
        four = [ended.enter_context(start(drawn_store, tmp_path, 0.1)) for _ in range(4)]
        wait_for(four[0], 8)
        four[0].send_signal(signal.SIGKILL)
        done = [process.communicate() and process.returncode for process in four]
    assert done == [-signal.SIGKILL, 0, 0, 0]
    computed = []
    cache = cache_embeddings(
        make_teacher(), drawn_store, tmp_path, lambda *counts: computed.append(counts)
    )
    assert computed == []
    assert_equal(cache, undisturbed)


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_a_network_in_another_process_returns_the_same(colour):
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


def test_few_batches_are_in_memory_at_once(drawn_store, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "CLAIM", 1)
    waiting, most = set(), 0
    load, embed = Pictures.load, Pictures.embed

    def counted_load(self, rows):
        waiting.add(rows[0])
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


def test_both_embeds_the_image_and_its_mirror_image():
    teacher = make_teacher()
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    both = embed_both(teacher, pictures)
    swapped = embed_both(teacher, pictures[:, :, ::-1])
    assert both.shape == (3, 2, 16)
    assert np.allclose(both[:, 0], swapped[:, 1], atol=1e-5)


def test_large_images_are_embedded_a_few_at_a_time(tmp_path, monkeypatch):
    """Otherwise 256 of the largest images would be 50 GB."""
    picture = encode_jpeg(np.zeros((40, 40, 3), np.uint8))
    write_layout(tmp_path / "source", [(picture, i // 5) for i in range(20)], (40, 40))
    store = convert(tmp_path / "source", tmp_path / "a.lmdb")
    whole = cache_embeddings(make_teacher(), store, tmp_path / "whole")
    monkeypatch.setattr("curation.images._PIXEL_BYTES_TOGETHER", 3 * 40 * 40 * 3)
    teacher, seen = make_teacher(), []
    embed = teacher.embed
    monkeypatch.setattr(teacher, "embed", lambda images: seen.append(len(images)) or embed(images))
    parts = cache_embeddings(teacher, store, tmp_path / "parts")
    assert max(seen) == 3
    assert np.array_equal(parts.unit, whole.unit)


def test_decoded_images_together_have_a_limit():
    assert count_together((112, 112), 256) == 256
    assert count_together((2048, 2048), 256) == 10
    assert count_together((8192, 8192), 256) == 1
