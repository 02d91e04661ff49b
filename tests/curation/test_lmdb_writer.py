"""Files of our own writing are LMDB files: liblmdb reads, copies and extends them."""

import errno
import os
import struct

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.conversion.lmdb_writer import LmdbWriter
from curation.environment import Environment

key = struct.Struct(">Q").pack


def write(folder, values, texts=()):
    folder.mkdir(exist_ok=True)
    leaves = []
    with LmdbWriter(folder / "data.mdb") as writer:
        for i, value in enumerate(values):
            writer.put(key(i), value)
        writer.end_leaf()
        leaves = [(key(leaf.first_entry), leaf.page) for leaf in writer.take_leaves()]
        for text, value in texts:
            writer.put(text, value)
            writer.end_leaf()
            leaves += [(text, leaf.page) for leaf in writer.take_leaves()]
        writer.finish(leaves, len(leaves))


def read(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as environment:
        return list(environment.begin().cursor()), environment.stat()


sizes = st.integers(0, 9000) | st.sampled_from([2013, 2014, 2015, 2022, 4080, 4081, 8176, 8177])


@settings(deadline=None)
@given(st.lists(sizes, min_size=1, max_size=60))
def test_liblmdb_reads_what_was_written(tmp_path_factory, lengths):
    folder = tmp_path_factory.mktemp("pages")
    values = [bytes([i % 251 + 1]) * length for i, length in enumerate(lengths)]
    write(folder, values, [(b"labels", b"x" * 5000), (b"meta", b"{}")])
    entries, status = read(folder)
    wanted = [(key(i), value) for i, value in enumerate(values)]
    assert entries == [*wanted, (b"labels", b"x" * 5000), (b"meta", b"{}")]
    assert status["entries"] == len(entries) == Environment(folder).entries


@pytest.mark.parametrize(("count", "depth"), [(1, 1), (3, 1), (300, 2), (60_000, 3)])
def test_trees_of_every_depth(tmp_path, count, depth):
    values = [b"%d" % i * 30 for i in range(count)]
    write(tmp_path, values)
    entries, status = read(tmp_path)
    assert [value for _, value in entries] == values
    assert status["depth"] == depth
    with lmdb.open(str(tmp_path), readonly=True, lock=False) as environment:
        found = environment.begin()
        assert all(found.get(key(i)) == values[i] for i in range(0, count, 7))
        assert found.get(key(count)) is None


def test_liblmdb_itself_copies_and_extends_it(tmp_path):
    write(tmp_path / "a", [bytes(i * 100) for i in range(200)])
    (tmp_path / "b").mkdir()
    with lmdb.open(str(tmp_path / "a"), map_size=1 << 26) as environment:
        environment.copy(str(tmp_path / "b"), compact=True)
        with environment.begin(write=True) as transaction:
            assert transaction.put(b"\0\0more", b"a" * 10_000)
            assert transaction.delete(key(150))
        assert environment.stat()["entries"] == 200
    assert [len(value) for _, value in read(tmp_path / "b")[0]] == [i * 100 for i in range(200)]


def test_it_takes_no_more_pages_than_lmdb(tmp_path):
    values = [bytes(6000)] * 2000
    write(tmp_path / "ours", values)
    environment = lmdb.open(str(tmp_path / "theirs"), map_size=1 << 26)
    with environment, environment.begin(write=True) as transaction:
        transaction.cursor().putmulti([(key(i), v) for i, v in enumerate(values)], append=True)
    size = {name: (tmp_path / name / "data.mdb").stat().st_size for name in ("ours", "theirs")}
    assert size["ours"] <= size["theirs"]


@settings(deadline=None)
@given(st.lists(st.lists(sizes, max_size=200), max_size=4))
def test_many_at_a_time_give_the_same_file(tmp_path_factory, batches):
    folder = tmp_path_factory.mktemp("batches")
    values = [[bytes([i % 250 + 1]) * size for i, size in enumerate(batch)] for batch in batches]
    for name in ("one", "many"):
        with LmdbWriter(folder / name) as writer:
            for batch in values:
                if name == "many":
                    writer.put_numbered(batch)
                for value in batch if name == "one" else ():
                    writer.put(key(writer.entries), value)
            writer.put(b"end", b"")
            writer.end_leaf()
            leaves = [(key(leaf.first_entry), leaf.page) for leaf in writer.take_leaves()]
            writer.finish(leaves, len(leaves))
    assert (folder / "one").read_bytes() == (folder / "many").read_bytes()


def test_a_stopped_writer_goes_on_where_a_leaf_ended(tmp_path):
    values = [bytes([i]) * 5000 for i in range(250)]
    path = tmp_path / "data.mdb"
    with LmdbWriter(path) as writer:
        writer.put_numbered(values[:200])
        writer.end_leaf()
        [write.result() for write in writer.flush()]
        state = writer.page, writer.entries, writer.overflow
        leaves = writer.take_leaves()
    path.write_bytes(path.read_bytes() + b"torso")
    with LmdbWriter(path, *state) as writer:
        writer.put_numbered(values[200:])
        writer.end_leaf()
        leaves += writer.take_leaves()
        writer.finish([(key(leaf.first_entry), leaf.page) for leaf in leaves], len(leaves))
    assert [value for _, value in read(tmp_path)[0]] == values


def test_values_longer_than_a_buffer_and_cut_by_its_end(tmp_path, monkeypatch):
    values = [bytes([i % 251 + 1]) * size for i, size in enumerate([5000, 70_000, 3000, 9000] * 60)]
    for name, pages in (("small", 3), ("big", 1024)):
        monkeypatch.setattr("curation.conversion.page_file._BUFFER", pages * 4096)
        (tmp_path / name).mkdir()
        with LmdbWriter(tmp_path / name / "data.mdb") as writer:
            writer.put_numbered(values)
            writer.end_leaf()
            leaves = [(key(leaf.first_entry), leaf.page) for leaf in writer.take_leaves()]
            writer.finish(leaves, len(leaves))
    assert [value for _, value in read(tmp_path / "small")[0]] == values
    written = [(tmp_path / name / "data.mdb").read_bytes() for name in ("small", "big")]
    assert written[0] == written[1]


def test_where_there_is_no_way_past_the_cache(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    write(tmp_path, [bytes(6000)] * 10)
    assert [value for _, value in read(tmp_path)[0]] == [bytes(6000)] * 10
