"""Any LMDB file is read with the bytes that were written, or refused in one line."""

import os
import random
import shutil
import struct

import lmdb
import numpy as np
import pytest

from curation.conversion.store_file import StoreFile
from curation.environment import Environment
from curation.errors import UserError
from curation.export import export_folders
from curation.extract import write_images
from curation.inspection import inspect_path
from curation.store import META_KEY, Store, image_key
from curation.verify import verify

PAGE = 4096


@pytest.fixture
def damaged(store, tmp_path):
    return shutil.copytree(store.path, tmp_path / "damaged.lmdb")


def change(path, key, value):
    environment = lmdb.open(str(path), map_size=1 << 24, lock=False)
    with environment, environment.begin(write=True) as transaction:
        transaction.put(key, value)


def nodes(data):
    """The offset of every node of every leaf and branch page, including pages freed since."""
    for page in range(0, len(data), PAGE):
        _, _, flags, lower, _ = struct.unpack_from("<QHHHH", data, page)
        if flags in (1, 2):
            for pointer in range(page + 16, page + lower, 2):
                yield page + struct.unpack_from("<H", data, pointer)[0]


def outcome(path):
    """All images, or the error line."""
    try:
        return [Store(path).read(i) for i in range(16)]
    except UserError as error:
        return " in more lines ".join(str(error).split("\n"))


class TestNodes:
    def test_a_size_beyond_the_file_is_one_line_everywhere(self, damaged, tmp_path):
        path = damaged / "data.mdb"
        data = bytearray(path.read_bytes())
        for at in nodes(data):
            if bytes(data[at + 8 : at + 16]) == image_key(0):
                struct.pack_into("<I", data, at, 0x7FFFFFF0)
        path.write_bytes(data)
        assert inspect_path(damaged)["images"] == 16  # no image is read
        for use in (
            verify,
            outcome_raised,
            lambda path: export_folders(Store(path), tmp_path / "out"),
            lambda path: write_images(Store(path), tmp_path / "some", 1, 4),
        ):
            with pytest.raises(UserError, match=r"data\.mdb is damaged: .*make it again"):
                use(damaged)

    @pytest.mark.parametrize("seed", range(60))
    def test_changed_numbers_in_the_tree(self, store, damaged, seed):
        """In pages (number, flags, bounds, pointers) and in nodes (size, flags, key)."""
        wanted, chance = outcome(store.path), random.Random(seed)
        path = damaged / "data.mdb"
        data = bytearray(path.read_bytes())
        pages = [page for page in range(0, len(data), PAGE) if data[page + 10] in (1, 2)]
        places = [page + 2 * i for page in pages for i in range(8, 14)] + pages
        places += [at + 2 * i for at in nodes(data) for i in range(4)]
        for place in chance.sample(places, chance.randrange(1, 4)):
            struct.pack_into("<H", data, place, chance.choice([0, 1, 7, 16, 4095, 65535, 30000]))
        path.write_bytes(data)
        found = outcome(damaged)
        assert found == wanted or "in more lines" not in found

    def test_the_header_cannot_claim_more_than_the_file_has(self, damaged):
        path = damaged / "data.mdb"
        data = bytearray(path.read_bytes())
        for entries in (1 << 40, 1 << 62):
            for page in (0, PAGE):
                struct.pack_into("<Q", data, page + 16 + 24 + 48 + 32, entries)
            path.write_bytes(data)
            assert "no room for" in outcome(damaged)

    def test_a_sparse_file_cannot_exhaust_memory(self, damaged):
        path = damaged / "data.mdb"
        data = bytearray(path.read_bytes())
        for page in (0, PAGE):
            struct.pack_into("<Q", data, page + 16 + 24 + 48 + 32, 1 << 39)
            struct.pack_into("<Q", data, page + 16 + 24 + 96, (1 << 31) - 1)
        path.write_bytes(data)
        os.truncate(path, PAGE << 31)
        assert "more than the memory can hold" in outcome(damaged)


def outcome_raised(path):
    return [Store(path).read(i) for i in range(16)]


class TestImages:
    def test_swapped_images_are_detected_on_reading(self, damaged):
        store = Store(damaged)
        first, second = store.read(3), store.read(9)
        change(damaged, image_key(3), second)
        change(damaged, image_key(9), first)
        store = Store(damaged)
        assert len(store.read(4)) > 0
        message = r"damaged\.lmdb: image 3 \(key 4\): its bytes have changed; `curate verify"
        with pytest.raises(UserError, match=message):
            store.read(3)
        with pytest.raises(UserError, match=r"image 9 \(key 10\)"):
            list(store.read_many(np.array([4, 9])))

    def test_an_image_of_many_megabytes_is_not_read(self, damaged):
        environment = lmdb.open(str(damaged), map_size=1 << 27, lock=False)
        with environment, environment.begin(write=True) as transaction:
            transaction.put(image_key(0), bytes(33 << 20))
        with pytest.raises(UserError, match="has 34,603,008 bytes; the limit is 33,554,432"):
            Store(damaged).read(0)

    def test_meta_data_of_many_megabytes_are_not_read(self, damaged):
        change(damaged, META_KEY, bytes(2 << 20))
        with pytest.raises(UserError, match=r"'meta' has 2,097,152 bytes"):
            Store(damaged)

    def test_a_file_that_shrinks_while_it_is_read_is_one_line(self, damaged):
        store = Store(damaged)
        store.read(0)
        with (damaged / "data.mdb").open("r+b") as file:
            file.truncate(8192)
        with pytest.raises(UserError, match=r"is truncated: it has \d+ bytes of \d+"):
            [store.read(i) for i in range(16)]

    def test_a_replaced_file_is_still_read_unchanged(self, store, damaged):
        opened, wanted = Store(damaged), store.read(7)
        other = damaged / "other"
        other.write_bytes(b"something else")
        other.rename(damaged / "data.mdb")
        assert opened.read(7) == wanted


class TestTrees:
    """Files written in order and in disorder, of any depth."""

    def write(self, folder, count, size):
        folder.mkdir()
        file = StoreFile(folder)
        file.append(0, [number.to_bytes(2, "big") * size for number in range(count)])
        file.commit(b"")
        file.finish(b"")
        file.close()

    @pytest.mark.parametrize("size", [4, 1500])
    def test_keys_and_values_are_those_that_liblmdb_reads(self, tmp_path, size):
        self.write(tmp_path / "ours", 30_000, size)
        environment = lmdb.open(str(tmp_path / "theirs"), map_size=1 << 29)
        with environment, environment.begin(write=True) as transaction:
            for number in random.Random(0).sample(range(30_000), 30_000):
                transaction.put(image_key(number), number.to_bytes(2, "big") * size)
            transaction.put(b"labels", b"1")
        for folder, keys in ((tmp_path / "ours", 30_001), (tmp_path / "theirs", 30_001)):
            opened = Environment(folder)
            assert sum(1 for _ in opened.all_keys()) == opened.entries == keys
            chosen = random.Random(1).sample(range(30_000), 3000)
            found = list(opened.get_numbered(chosen, 1 << 20))
            assert found == [number.to_bytes(2, "big") * size for number in chosen]
        assert opened.get(b"labels") == b"1"
        assert opened.get(b"lab") is None

    def test_pages_shared_in_the_tree_are_refused_quickly(self, tmp_path):
        """Each level has two ways to the next: 2^30 leaves if all were walked."""
        self.write(tmp_path / "a", 300, 1000)
        path = tmp_path / "a" / "data.mdb"
        data = bytearray(path.read_bytes())
        metas = (struct.unpack_from("<24x48x40xQQQ", data, at + 16) for at in (0, PAGE))
        root, _, _ = max(metas, key=lambda meta: meta[2])
        for at in nodes(data[root * PAGE : root * PAGE + PAGE]):
            struct.pack_into("<IH", data, root * PAGE + at, root, 0)
        for page in (0, PAGE):
            struct.pack_into("<H", data, page + 16 + 24 + 48 + 6, 31)
        path.write_bytes(data)
        opened = Environment(tmp_path / "a")
        with pytest.raises(UserError, match="does not match the tree"):
            list(opened.all_keys())
        with pytest.raises(UserError, match="keys are not in order"):
            list(opened.get_numbered([0], 1 << 20))

    def test_an_empty_environment_has_no_entries(self, tmp_path):
        lmdb.open(str(tmp_path / "a")).close()
        opened = Environment(tmp_path / "a")
        assert list(opened.all_keys()) == []
        assert opened.get(b"meta") is None

    def test_another_kind_of_lmdb_is_refused(self, damaged):
        path = damaged / "data.mdb"
        data = bytearray(path.read_bytes())
        for page in (0, PAGE):
            struct.pack_into("<H", data, page + 16 + 24 + 48 + 4, 0x04)  # several values per key
        path.write_bytes(data)
        with pytest.raises(UserError, match="LMDB file, but not of the kind"):
            Store(damaged)


@pytest.mark.parametrize("name", ["data.mdb", "view.json"])
@pytest.mark.parametrize(
    ("kind", "said"), [("pipe", "named pipe"), ("folder", "directory"), ("zero", "device")]
)
def test_special_files_in_a_store_or_view_are_named(tmp_path, name, kind, said):
    path = tmp_path / "a.lmdb" / name
    path.parent.mkdir()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "zero":
            path.symlink_to("/dev/zero")
    for use in (inspect_path, verify):
        with pytest.raises(UserError, match=rf"{name}( in it)?: it is a {said}, not a file"):
            use(path.parent)
