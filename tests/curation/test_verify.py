"""Every damage ends in one line; a store that verifies gives all its images back."""

import random
import shutil
import struct

import cv2
import lmdb
import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.isolation import run_isolated
from curation.records.layout_writer import write_layout
from curation.store import CHECKSUMS_KEY, LABELS_KEY, Store, image_key
from curation.verify import verify
from curation.views import write_subset


def content(path):
    store = Store(path)
    arrays = (store.labels, store.offsets, store.source_keys, store.source_labels, store.checksums)
    return [store.read(i) for i in range(len(store))], [array.tobytes() for array in arrays]


def change(path, key, value):
    """Put ``value`` under ``key``, or take the key away."""
    environment = lmdb.open(str(path), map_size=1 << 24, lock=False)
    with environment, environment.begin(write=True) as transaction:
        if value is None:
            assert transaction.delete(key)
        else:
            transaction.put(key, value)


class TestSound:
    @pytest.mark.parametrize("decoding", [False, True])
    def test_a_store_is_sound(self, store, decoding):
        calls = []
        found = verify(store.path, decoding, lambda *call: calls.append(call))
        assert found["sound"]
        assert (found["kind"], found["images"], found["identities"]) == ("store", 16, 5)
        assert found["decoded"] == (16 if decoding else 0)
        assert calls[-1] == (16, 16)

    def test_a_view_and_its_store_are_sound(self, store, tmp_path):
        write_subset(tmp_path / "a.view", store, store.labels < 2, "test", {})
        found = verify(tmp_path / "a.view")
        assert (found["kind"], found["images"]) == ("view", 5)

    @pytest.mark.parametrize("decoding", [False, True])
    def test_a_record_file_is_sound(self, write_source, decoding):
        source = write_source({0: 3, 4: 2})
        found = verify(source, decoding)
        assert (found["kind"], found["images"], found["identities"]) == ("records", 5, 2)


class TestDamage:
    @pytest.fixture
    def copy(self, store, tmp_path):
        return shutil.copytree(store.path, tmp_path / "copy.lmdb")

    def refuses(self, path, complaint, decoding=False):
        with pytest.raises(UserError, match=complaint) as found:
            verify(path, decoding)
        assert "\n" not in str(found.value)

    def test_other_bytes_of_an_image(self, copy, noise_images):
        change(copy, image_key(3), noise_images[20])
        self.refuses(copy, "the bytes of image 3 are not what they were")

    def test_a_missing_image(self, copy):
        change(copy, image_key(7), None)
        self.refuses(copy, "image 7 is missing")

    def test_an_entry_too_many(self, copy):
        change(copy, b"more", b"1")
        self.refuses(copy, "other entries than its images and index")

    def test_labels_that_do_not_fit(self, copy):
        change(copy, LABELS_KEY, np.zeros(16, "<i4").tobytes())
        self.refuses(copy, "labels and offsets do not fit")

    def test_other_arrays(self, copy):
        change(copy, CHECKSUMS_KEY, np.zeros(16, "<u4").tobytes())
        self.refuses(copy, "its arrays are not those it was written with")

    def test_an_image_that_cannot_be_decoded(self, tmp_path):
        image = cv2.imencode(".png", np.zeros((24, 20, 3), np.uint8))[1].tobytes()
        write_layout(tmp_path, [(image[:60] + bytes(len(image) - 60), 0)], (24, 20))
        store = convert(tmp_path, tmp_path / "a.lmdb")
        assert verify(store.path)["sound"]
        self.refuses(store.path, "image 0 is damaged", decoding=True)

    def test_a_view_of_a_damaged_store(self, copy, tmp_path, noise_images):
        change(copy, image_key(15), noise_images[20])
        store = Store(copy)
        write_subset(tmp_path / "a.view", store, store.labels < 2, "test", {})
        self.refuses(tmp_path / "a.view", "the bytes of image 15")

    def test_a_missing_store(self, tmp_path):
        self.refuses(tmp_path / "none.lmdb", "it does not exist")

    def test_a_damaged_record_file(self, write_source):
        source = write_source({0: 5})
        data = bytearray((source / "train.rec").read_bytes())
        data[52:56] = struct.pack("<f", 0.5)
        (source / "train.rec").write_bytes(data)
        with pytest.raises(UserError):
            verify(source)


def crash(number, progress):
    import os

    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "name"), [(11, "SIGSEGV"), (7, "SIGBUS"), (6, "SIGABRT")])
def test_a_crash_is_an_error_here(number, name):
    with pytest.raises(ChildProcessError, match=name):
        run_isolated(crash, (number,))


def outcome(path):
    """None, or the one line that says what is wrong."""
    try:
        verify(path)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("seed", range(24))
def test_a_changed_byte_is_found_or_was_not_used(store, tmp_path, seed):
    """Half of the changes go into pages of the tree and of meta data."""
    wanted = content(store.path)
    shutil.copytree(store.path, tmp_path / "damaged.lmdb")
    path = tmp_path / "damaged.lmdb" / "data.mdb"
    data = bytearray(path.read_bytes())
    chance = random.Random(seed)
    pages = range(0, len(data), 4096)
    tree = [page for page in pages if data[page + 10] in (1, 2, 8)]
    page = chance.choice(tree if seed % 2 else pages)
    place = page + chance.randrange(96 if seed % 4 == 1 else 4096)
    data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    found = outcome(path.parent)
    if found is None:
        assert content(path.parent) == wanted
    else:
        assert "\n" not in found
