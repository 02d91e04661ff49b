"""Any damage is reported in one line; a store that verifies returns all its images."""

import random
import shutil
import struct

import cv2
import lmdb
import numpy as np
import pytest

from curation.bad_images import SHOWN, BadImages
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.records.layout_writer import write_layout
from curation.store import CHECKSUMS_KEY, LABELS_KEY, Store, image_key
from curation.subsets import write_drop
from curation.subsets.text_lists import By, read_list
from curation.verify import verify
from curation.view_writing import write_subset, write_view


def content(path):
    store = Store(path)
    arrays = (store.labels, store.offsets, store.source_keys, store.source_labels, store.checksums)
    return [store.read(i) for i in range(len(store))], [array.tobytes() for array in arrays]


def change(path, key, value):
    """Put ``value`` under ``key``, or delete the key."""
    environment = lmdb.open(str(path), map_size=1 << 24, lock=False)
    with environment, environment.begin(write=True) as transaction:
        if value is None:
            assert transaction.delete(key)
        else:
            transaction.put(key, value)


class TestIntact:
    @pytest.mark.parametrize("decoding", [False, True])
    def test_a_store_is_intact(self, store, decoding):
        calls = []
        found = verify(store.path, decoding, lambda *call: calls.append(call))
        assert found["sound"]
        assert (found["kind"], found["images"], found["identities"]) == ("store", 16, 5)
        assert found["decoded"] == (16 if decoding else 0)
        assert calls[-1] == (16, 16)

    def test_a_view_and_its_store_are_intact(self, store, tmp_path):
        write_subset(tmp_path / "a.view", store, store.labels < 2, "test", {})
        found = verify(tmp_path / "a.view")
        assert (found["kind"], found["images"]) == ("view", 5)

    @pytest.mark.parametrize("decoding", [False, True])
    def test_a_record_file_is_intact(self, write_source, decoding):
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
        found = verify(copy)
        assert not found["sound"]
        reason = "its bytes have changed"
        assert found["bad_images"] == [{"image": 3, "key": 4, "reason": reason}]

    def test_a_missing_image(self, copy):
        change(copy, image_key(7), None)
        self.refuses(copy, "image 7 is missing")

    def test_a_superfluous_entry(self, copy):
        change(copy, b"more", b"1")
        self.refuses(copy, "other entries than its images and index")

    def test_inconsistent_labels(self, copy):
        change(copy, LABELS_KEY, np.zeros(16, "<i4").tobytes())
        self.refuses(copy, "labels do not match its meta data")

    def test_other_arrays(self, copy):
        change(copy, CHECKSUMS_KEY, np.zeros(16, "<u4").tobytes())
        self.refuses(copy, "its arrays have changed since it was written")

    def test_changed_bytes_outside_a_view(self, copy, tmp_path, noise_images):
        change(copy, image_key(15), noise_images[20])
        store = Store(copy)
        write_subset(tmp_path / "a.view", store, store.labels < 2, "test", {})
        self.refuses(tmp_path / "a.view", "image 15: its bytes have changed")

    def test_a_missing_store(self, tmp_path):
        self.refuses(tmp_path / "none.lmdb", "it does not exist")

    def test_a_damaged_record_file(self, write_source):
        source = write_source({0: 5})
        data = bytearray((source / "train.rec").read_bytes())
        data[52:56] = struct.pack("<f", 0.5)
        (source / "train.rec").write_bytes(data)
        assert verify(source)["bad_images"][0]["key"] == 1


class TestBadImages:
    """All of them are listed; the rest is checked as well."""

    @pytest.fixture
    def source(self, tmp_path, noise_images):
        """12 images of 3 identities with the keys 1 to 12; three cannot be decoded."""
        png = cv2.imencode(".png", np.zeros((24, 20, 3), np.uint8))[1].tobytes()
        bad = {2: noise_images[2][:-90], 7: png[:60] + bytes(len(png) - 60), 11: png[:-30]}
        images = [(bad.get(i, noise_images[i]), i // 4) for i in range(12)]
        write_layout(tmp_path / "source", images, (24, 20))
        return tmp_path / "source"

    @pytest.fixture
    def damaged(self, source, tmp_path):
        return convert(source, tmp_path / "a.lmdb")

    def bad(self, path, **options):
        found = verify(path, decoding=True, **options)
        assert found["bad"] == len(found["bad_images"])
        assert found["sound"] == (found["bad"] == 0)
        return [(bad["image"], bad["key"]) for bad in found["bad_images"]]

    def test_of_a_store(self, damaged):
        assert verify(damaged.path)["sound"]
        assert self.bad(damaged.path) == [(2, 3), (7, 8), (11, 12)]

    def test_of_a_view_only_its_own_with_their_indices_in_it(self, damaged, tmp_path):
        whole = np.ones(12, bool)
        whole[[2, 7, 11]] = False
        write_subset(tmp_path / "whole.view", damaged, whole, "test", {})
        assert self.bad(tmp_path / "whole.view") == []
        rows, labels = np.array([11, 9, 8, 2]), np.array([0, 0, 0, 1], np.int32)
        write_view(tmp_path / "some.view", damaged, rows, labels, "test", {})
        assert self.bad(tmp_path / "some.view") == [(3, 3), (0, 12)]

    def test_of_a_record_file(self, source):
        data = bytearray((source / "train.rec").read_bytes())
        data[12:16] = struct.pack("<f", 0.5)  # the label of the first record
        (source / "train.rec").write_bytes(data)
        found = verify(source, decoding=True)
        assert [bad["key"] for bad in found["bad_images"]][-3:] == [3, 8, 12]

    def test_their_keys_are_a_list_for_dropping_them(self, damaged, tmp_path):
        verify(damaged.path, decoding=True, list_file=tmp_path / "bad.txt")
        view = write_drop(tmp_path / "whole.view", damaged, tmp_path / "bad.txt", By.KEY)
        assert len(view) == 9
        assert self.bad(view.path) == []

    def test_an_unwritable_list_is_one_line(self, damaged, tmp_path):
        with pytest.raises(UserError, match=r"cannot write .*No such file or directory"):
            verify(damaged.path, list_file=tmp_path / "no" / "bad.txt")

    def test_only_the_first_are_kept_but_the_list_has_all(self, tmp_path):
        with (tmp_path / "bad.txt").open("wb") as file:
            bad = BadImages(file)
            for image in range(SHOWN + 500):
                bad.add(image + 1, "the image is damaged:\nit ends early", image=image)
        assert (bad.count, len(bad.first)) == (SHOWN + 500, SHOWN)
        assert len(list(read_list(tmp_path / "bad.txt"))) == SHOWN + 500


def outcome(path):
    """None, or the one-line error."""
    try:
        found = verify(path)
    except UserError as error:
        return str(error)
    return None if found["sound"] else found["bad_images"][0]["reason"]


@pytest.mark.parametrize("seed", range(24))
def test_a_changed_byte_is_detected_or_unused(store, tmp_path, seed):
    """Half of the changes are in pages of the tree and of meta data."""
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
