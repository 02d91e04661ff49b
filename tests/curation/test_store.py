import multiprocessing
import os
import pickle
import random
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest

from curation.errors import UserError
from curation.store import META_KEY, Store, image_key


def test_images_of_an_identity_are_contiguous(store):
    assert store.labels.tolist() == [0] * 4 + [1] + [2] * 6 + [3] * 2 + [4] * 3
    assert store.offsets.tolist() == [0, 4, 5, 11, 13, 16]
    assert store.source_labels.tolist() == [2, 3, 5, 7, 11]
    assert store.source_keys.tolist() == list(range(1, 17))
    assert store.rows.tolist() == list(range(16))


def test_arrays_have_the_promised_types(store):
    types = {name: getattr(store, name).dtype for name in ("labels", "offsets", "source_keys")}
    assert types == {"labels": np.int32, "offsets": np.int64, "source_keys": np.int64}


def test_images_are_the_files_of_the_source(store, noise_images):
    assert [store.read(i) for i in range(len(store))] == noise_images[:16]


def test_a_store_describes_itself(store, tmp_path):
    assert (len(store), store.identities, store.image_size) == (16, 5, (24, 20))
    assert (store.name, store.path, store.store) == ("train", tmp_path / "train.lmdb", store)
    assert store.meta.source_name == "train.rec"
    assert store.meta.source_size == (tmp_path / "source" / "train.rec").stat().st_size
    assert len(store.digest) == 64


def test_the_format_is_as_documented(store, tmp_path):
    shutil.copytree(store.path, tmp_path / "copy.lmdb")
    with lmdb.open(str(tmp_path / "copy.lmdb"), readonly=True, lock=False) as environment:
        keys = [key for key, _ in environment.begin().cursor()]
    assert keys[:16] == [image_key(i) for i in range(16)]
    assert image_key(258) == b"\0\0\0\0\0\0\1\2"
    assert keys[16:] == [
        b"checksums",
        b"labels",
        b"meta",
        b"offsets",
        b"source_keys",
        b"source_labels",
    ]


@pytest.mark.parametrize("i", [-1, 16, 1 << 40])
def test_a_missing_image_is_an_index_error(store, i):
    with pytest.raises(IndexError, match="has only the images 0 to 15"):
        store.read(i)
    with pytest.raises(IndexError, match="has only the images 0 to 15"):
        list(store.read_many(np.array([3, i])))


def test_reading_many_equals_reading_one_by_one(store):
    chosen = np.array([7, 0, 15, 7])
    assert list(store.read_many(chosen)) == [store.read(i) for i in chosen.tolist()]
    assert list(store.read_many(chosen[:0])) == []


def test_numpy_integers_are_indices(store, noise_images):
    assert store.read(np.int64(3)) == noise_images[3]


def test_a_pickled_store_can_be_read(store, noise_images):
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.digest, copy.read(5)) == (store.digest, noise_images[5])


def test_two_stores_of_one_path_share_an_environment(store, noise_images):
    assert Store(store.path).read(1) == store.read(1) == noise_images[1]


def read_one(store, i):
    return store.read(i)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_it(store, noise_images, method):
    store.read(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(read_one, [(store, i) for i in range(16)])
    assert found == noise_images[:16]


def test_a_forked_child_reads_through_the_object_it_inherited(store, noise_images):
    store.read(0)
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read(7) == noise_images[7] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.read(8) == noise_images[8]


def test_threads_read_it(store, noise_images):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(store.read, [i % 16 for i in range(400)]))
    assert found == [noise_images[i % 16] for i in range(400)]


def test_reading_leaves_no_files(store):
    store.read(0)
    assert sorted(path.name for path in store.path.iterdir()) == ["data.mdb", "source.json"]


def test_a_store_in_a_read_only_folder_is_read(store, noise_images):
    store.path.chmod(0o555)
    try:
        assert Store(store.path).read(2) == noise_images[2]
    finally:
        store.path.chmod(0o755)


class TestInvalidStores:
    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"none\.lmdb is not a store: it does not exist"):
            Store(tmp_path / "none.lmdb")

    def test_a_folder_without_data(self, tmp_path):
        with pytest.raises(UserError, match=r"is not a store: there is no data\.mdb in it"):
            Store(tmp_path)

    def test_an_interrupted_conversion_tells_how_to_resume(self, tmp_path):
        (tmp_path / "train.lmdb.partial").mkdir()
        with pytest.raises(UserError, match=r"not complete.*curate convert SOURCE .*train\.lmdb"):
            Store(tmp_path / "train.lmdb")

    @pytest.mark.parametrize("name", ["other.lmdb", "train.lmdb.partial"])
    def test_an_environment_without_meta_data_is_not_complete(self, tmp_path, name):
        with lmdb.open(str(tmp_path / name)) as environment, environment.begin(write=True) as batch:
            batch.put(image_key(0), b"image")
        with pytest.raises(UserError, match="is not complete"):
            Store(tmp_path / name)

    @pytest.mark.parametrize(
        "meta", [b"", b"{}", b"[1]", b'{"format_version": 1}', b"\xff", b'{"complete": false}']
    )
    def test_other_meta_data_is_refused(self, store, tmp_path, meta):
        shutil.copytree(store.path, tmp_path / "other.lmdb")
        environment = lmdb.open(str(tmp_path / "other.lmdb"), map_size=1 << 24, lock=False)
        with environment, environment.begin(write=True) as batch:
            batch.put(META_KEY, meta)
        with pytest.raises(UserError, match="not a store of format 2"):
            Store(tmp_path / "other.lmdb")

    @pytest.mark.parametrize("key", [b"labels", b"offsets", b"source_keys", b"source_labels"])
    def test_an_index_of_another_length_is_refused(self, store, tmp_path, key):
        shutil.copytree(store.path, tmp_path / "other.lmdb")
        environment = lmdb.open(str(tmp_path / "other.lmdb"), map_size=1 << 24, lock=False)
        with environment, environment.begin(write=True) as batch:
            batch.put(key, b"\0" * 12)
        with pytest.raises(UserError, match=f"damaged: its {key.decode()}"):
            getattr(Store(tmp_path / "other.lmdb"), key.decode())


def outcome_in_a_child(path):
    """0: read, 1: refused in one line; otherwise the number of the signal that killed it."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            store = Store(path)
            status = 0 if [store.read(i) for i in range(len(store))] else 2
        except UserError as error:
            status = 2 if "\n" in str(error) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestDamagedData:
    @pytest.fixture
    def damaged(self, store, tmp_path):
        shutil.copytree(store.path, tmp_path / "damaged.lmdb")
        return tmp_path / "damaged.lmdb"

    def test_a_truncated_file_is_refused_without_a_crash(self, damaged):
        whole = (damaged / "data.mdb").read_bytes()
        lengths = [0, 1, 100, 4095, 4096, 8191, 8192, *range(12288, len(whole), 12288)]
        outcomes = Counter()
        for length in [*lengths, len(whole) - 1]:
            (damaged / "data.mdb").write_bytes(whole[:length])
            outcomes[outcome_in_a_child(damaged)] += 1
        assert set(outcomes) == {1}

    @pytest.mark.parametrize("seed", range(5))
    def test_garbage_is_refused(self, damaged, seed):
        (damaged / "data.mdb").write_bytes(random.Random(seed).randbytes(50_000))
        assert outcome_in_a_child(damaged) == 1
        with pytest.raises(UserError, match="does not start like an LMDB file"):
            Store(damaged)

    def test_a_file_whose_second_half_is_zero_is_refused(self, damaged):
        data = bytearray((damaged / "data.mdb").read_bytes())
        data[8192:] = bytes(len(data) - 8192)
        (damaged / "data.mdb").write_bytes(data)
        assert outcome_in_a_child(damaged) == 1

    def test_the_message_names_the_bytes(self, damaged):
        size = (damaged / "data.mdb").stat().st_size
        os.truncate(damaged / "data.mdb", size - 4096)
        with pytest.raises(UserError, match=f"truncated: it has {size - 4096} bytes of {size}"):
            Store(damaged)
