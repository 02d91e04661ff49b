"""The data file of an unfinished store: written by liblmdb, and only after it was verified."""

import random
import struct
from itertools import accumulate

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_content import content_of

from curation.conversion import store_file
from curation.conversion.store_file import StoreFile, is_sound, read_state
from curation.environment import Environment
from curation.errors import UserError
from curation.store import META_KEY, image_key

PAGE = 4096
sizes = st.integers(0, 9000) | st.sampled_from([2013, 2014, 2015, 2022, 4080, 4081, 8176, 8177])


def values_of(lengths):
    return [bytes([i % 251 + 1]) * length for i, length in enumerate(lengths)]


def write(folder, batches):
    """Commit the batches, each with its number as the state and its own writer."""
    firsts = [0, *accumulate(map(len, batches))]
    for number, batch in enumerate(batches):
        file = StoreFile(folder)
        file.append(firsts[number], batch)
        file.commit(b"state %d" % number)
        file.close()


@settings(deadline=None)
@given(st.lists(st.lists(sizes, max_size=60), min_size=1, max_size=5))
def test_all_committed_batches_are_read(tmp_path_factory, lengths):
    folder = tmp_path_factory.mktemp("pages")
    batches = [values_of(batch) for batch in lengths]
    write(folder, batches)
    images = [value for batch in batches for value in batch]
    assert is_sound(folder, len(images))
    assert read_state(folder) == b"state %d" % (len(batches) - 1)
    assert [Environment(folder).get(image_key(i)) for i in range(len(images))] == images
    file = StoreFile(folder)
    file.put(b"labels", bytes(4 * len(images)))
    file.finish(b"{}")
    file.close()
    content_of(folder)
    assert list(Environment(folder).get_numbered(range(len(images)), 9000)) == images


def test_a_finished_file_has_only_images_index_and_meta_data(tmp_path):
    images = values_of(range(0, 9000, 90))
    file = StoreFile(tmp_path)
    file.append(0, images)
    file.commit(b"state")
    file.put(b"labels", b"x" * 5000)
    file.finish(b"{}")
    file.close()
    content_of(tmp_path)
    opened = Environment(tmp_path)
    assert list(opened.all_keys()) == [*map(image_key, range(100)), b"labels", META_KEY]
    assert list(opened.get_numbered(range(100), 9000)) == images
    assert (opened.get(b"labels"), opened.get(META_KEY)) == (b"x" * 5000, b"{}")
    assert read_state(tmp_path) is None


def test_uncommitted_images_are_lost(tmp_path):
    write(tmp_path, [[b"first"]])
    file = StoreFile(tmp_path)
    file.append(1, [bytes(9000)])
    file.close()
    assert is_sound(tmp_path, 1)


def test_the_map_grows_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(store_file, "_ROOM", 1 << 20)
    write(tmp_path, [[bytes(300_000)] * 20, [bytes(70)] * 3000, [bytes(9_000_000)]])
    assert is_sound(tmp_path, 3021)


def test_a_file_takes_little_more_than_its_images(tmp_path):
    write(tmp_path, [[bytes(6000)] * 100] * 20)
    assert (tmp_path / "data.mdb").stat().st_size < 1.02 * 2000 * 2 * PAGE + 40 * PAGE


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of six transactions, with free pages."""
    folder = tmp_path_factory.mktemp("written")
    write(folder, [values_of([3000, 500, 1900] * 90)] * 6)
    return (folder / "data.mdb").read_bytes()


class TestDamage:
    """liblmdb would trust these files, so they are verified before it opens them."""

    IMAGES = 1620

    def is_sound(self, folder, data):
        (folder / "data.mdb").write_bytes(data)
        return is_sound(folder, self.IMAGES)

    @pytest.mark.parametrize("size", [0, 90, PAGE, 3 * PAGE, 100 * PAGE])
    def test_a_truncated_file(self, tmp_path, written, size):
        assert self.is_sound(tmp_path, written)
        assert not self.is_sound(tmp_path, written[:size])

    def test_another_count_of_images(self, tmp_path, written):
        (tmp_path / "data.mdb").write_bytes(written)
        assert not is_sound(tmp_path, self.IMAGES - 1)
        assert not is_sound(tmp_path, self.IMAGES + 1)

    def test_foreign_keys(self, tmp_path, written):
        (tmp_path / "data.mdb").write_bytes(written)
        environment = lmdb.open(str(tmp_path), map_size=1 << 26, lock=False)
        with environment, environment.begin(write=True) as transaction:
            transaction.put(b"zebra", b"")
        assert not is_sound(tmp_path, self.IMAGES)

    @pytest.mark.parametrize("seed", range(40))
    def test_a_changed_number_is_noticed_or_harmless(self, tmp_path, written, seed):
        """In the meta page, pages of the tree, and free pages."""
        chance, data = random.Random(seed), bytearray(written)
        number, free, others = self.pages_of(data)
        places = [number * PAGE + 16 + i for i in range(24, 128, 2)]
        places += [free * PAGE + i for i in (0, 2, 10, 12, 14, *range(16, 40, 2))]
        places += [free * PAGE + i for i in range(PAGE - 200, PAGE, 2)]
        for page in chance.sample(others, 3):
            places += [page * PAGE + i for i in (0, 10, 12, 14, *range(16, PAGE, 14))]
        for place in chance.sample(places, 2):
            value = chance.choice([0, 1, 7, 16, 4095, 65535, 30000])
            struct.pack_into("<H", data, place, value)
        if self.is_sound(tmp_path, data):
            file = StoreFile(tmp_path)
            file.append(self.IMAGES, values_of([4000] * 300))
            file.commit(b"later")
            file.close()
            Environment(tmp_path).check_pages()

    def test_a_page_that_is_free_and_used(self, tmp_path, written):
        data = bytearray(written)
        _, root, _ = self.pages_of(data)
        at = root * PAGE + struct.unpack_from("<H", data, root * PAGE + 16)[0] + 16
        count, first = struct.unpack_from("<QQ", data, at)
        assert 0 < count < 100
        struct.pack_into("<Q", data, at + 8, first - 1)
        (tmp_path / "data.mdb").write_bytes(data)
        with pytest.raises(UserError, match=r"mdb is damaged: it has pages that are used twice"):
            Environment(tmp_path).check_pages()

    def pages_of(self, data):
        """The newer meta page, the root of the free pages, and the pages of the tree."""
        number = max((0, 1), key=lambda n: struct.unpack_from("<Q", data, n * PAGE + 144)[0])
        free = struct.unpack_from("<Q", data, number * PAGE + 16 + 24 + 40)[0]
        heads = [struct.unpack_from("<QHH", data, at) for at in range(0, len(data), PAGE)]
        trees = [i for i, (page, _, kind) in enumerate(heads) if page == i > 1 and kind in (1, 2)]
        return number, free, [page for page in trees if page != free]
