"""Lists that name images: their readers take memory for the images, not for the list."""

import os

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.name_index import NameIndex
from curation.noise.decisions import read_decisions
from curation.photographs.table import count_fates
from curation.records.index import read_index
from curation.sources.foreign_lmdb import read_labels
from curation.sources.lists import read_list
from curation.subsets import By, write_keep, write_merge_list, write_relabel, write_split_list
from curation.text_files import MAX_LINE
from tests.memory import traced_memory

MANY = 30_000


@pytest.fixture
def named(tmp_path, noise_images):
    """Eight images of four people."""
    for i in range(8):
        file = tmp_path / "faces" / f"p{i // 2}" / f"{i % 2}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(noise_images[i])
    return convert(tmp_path / "faces", tmp_path / "faces.lmdb")


READERS = {
    "keep": lambda path, to, store: write_keep(to, store, path, By.INDEX, skip_missing=True),
    "keep names": lambda path, to, store: write_keep(to, store, path, By.NAME, skip_missing=True),
    "relabel": lambda path, to, store: write_relabel(to, store, path, By.INDEX, skip_missing=True),
    "merge": lambda path, to, store: write_merge_list(to, store, path, By.INDEX),
    "split": lambda path, to, store: write_split_list(to, store, path, By.INDEX),
    "lmdb": lambda path, _, store: read_labels(path, map(str, range(len(store)))),
    "images": lambda path, *_: read_list(path),
    "decisions": lambda path, *_: read_decisions(path, "0" * 64),
    "faces": lambda path, *_: count_fates(path),
    "index": lambda path, *_: read_index(path),
}
"""Each reads a list, and refuses or skips what it does not know."""


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        ("keep", "{} 7\n"),
        ("keep names", "p1/0.jpg and {}\n"),
        ("relabel", "{} 1\n"),
        ("lmdb", "key{} 7\n"),
    ],
)
def test_a_list_of_unknown_images_takes_no_memory(tmp_path, named, reader, line, monkeypatch):
    # It reads the file in blocks of a megabyte.
    monkeypatch.setattr("curation.subsets.text_lists.file_digest", lambda path: "0" * 64)
    peaks = []
    for count in (3000, MANY):
        lines = (line.format(8 + i) for i in range(count))
        (tmp_path / "list.txt").write_text("".join(["7 1\n", *lines]))
        with traced_memory() as memory:
            READERS[reader](tmp_path / "list.txt", tmp_path / f"{count}.view", named)
        peaks.append(memory.peak)
    assert peaks[1] < peaks[0] + 4 * MANY


@pytest.mark.parametrize(
    ("reader", "text", "complaint"),
    [
        ("merge", "0 2\n0 2\n", "line 2: identity . would be merged into two identities"),
        ("merge", "0 2\n1 99\n", "line 2: .* has no image with the index 99"),
        ("split", "0 1\n0 1\n", "line 2: expected an image, listed once"),
        ("split", "0 1\n99 1\n", "line 2: .* has no image with the index 99"),
        ("relabel", "0 " + "x" * 300, "line 1: the identity has 300 characters; at most 256"),
    ],
    ids=["merge-twice", "merge-unknown", "split-twice", "split-unknown", "relabel-long"],
)
def test_reading_ends_at_the_first_wrong_line(tmp_path, named, reader, text, complaint):
    rest = "not read\n" * 10
    (tmp_path / "list.txt").write_text(text + ("" if reader == "relabel" else rest))
    with pytest.raises(UserError, match=complaint):
        READERS[reader](tmp_path / "list.txt", tmp_path / "a.view", named)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["endless line", "sparse", "pipe"])
def test_files_that_do_not_end_are_refused(tmp_path, named, reader, kind):
    path = tmp_path / "list.txt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"0 1\n" + (b"a" * (MAX_LINE + 1) if kind == "endless line" else b""))
        if kind == "sparse":
            os.truncate(path, 8 << 30)
    with traced_memory() as memory, pytest.raises(UserError, match=r"list\.txt"):
        READERS[reader](path, tmp_path / "a.view", named)
    assert memory.peak < 8 * MAX_LINE


@pytest.mark.parametrize("reader", ["keep", "keep names", "relabel", "lmdb", "images", "index"])
def test_the_number_of_lines_is_limited(tmp_path, named, reader, monkeypatch):
    for module in ("curation.text_files", "curation.records.index"):
        monkeypatch.setattr(f"{module}.MOST_LINES", 2)
    (tmp_path / "list.txt").write_text("0 1\n1 1\n2 1\n3 1\n")
    with pytest.raises(UserError, match="has more than 2 lines"):
        READERS[reader](tmp_path / "list.txt", tmp_path / "a.view", named)


class TestNameIndex:
    """Finding names by their hashes."""

    def test_every_position_of_a_name_is_found(self):
        names = ["b", "a", "c", "a"]
        index = NameIndex(names)
        for name in (*"abc", "d", ""):
            expected = [i for i, each in enumerate(names) if each == name]
            assert index.positions[index.span(name)].tolist() == expected
            assert index.position(name) == (expected or [-1])[0]

    def test_numbers_are_found_like_in_a_dictionary(self):
        numbers = np.random.default_rng(0).integers(-1, 50, 200)
        index = NameIndex(numbers)
        for number in range(60):
            expected = np.flatnonzero(numbers == number).tolist()
            assert index.positions[index.span(number)].tolist() == expected

    def test_a_name_takes_sixteen_bytes(self):
        with traced_memory() as memory:
            index = NameIndex(f"folder/{i}.jpg" for i in range(MANY))
        assert memory.kept < 17 * MANY + 5000
        assert index.position("folder/77.jpg") == 77
