"""Many names in little memory, as a sequence."""

import tracemalloc

import numpy as np
import pytest

from curation.packed_names import PackedNames

NAMES = ["anna/1.jpg", "", "ä/\udce9.jpg", "日本/2.png", "anna/1.jpg"]
JOINED = "\0".join(NAMES).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "names", [PackedNames(NAMES), PackedNames.separated(JOINED)], ids=["added", "separated"]
)
def test_packed_names_are_a_sequence(names):
    assert names == NAMES
    assert names == tuple(NAMES)
    assert names != NAMES[:-1]
    assert names != [*NAMES[:-1], "other"]
    assert [names[place] for place in range(-5, 5)] == NAMES + NAMES
    assert (names[1:4:2], names.at([3, 0])) == (NAMES[1:4:2], [NAMES[3], NAMES[0]])
    assert names.take(np.array([4, 2, 2])) == [NAMES[4], NAMES[2], NAMES[2]]
    assert names.take(np.arange(5)) is names
    assert len(names.take(np.array([], np.int64))) == 0
    with pytest.raises(IndexError):
        names[5]
    names.extend(["more"])
    assert names == [*NAMES, "more"]


def test_a_million_names_take_little_more_than_their_text():
    text = b"\0".join(b"%07d.jpg" % number for number in range(1_000_000))
    tracemalloc.start()
    names = PackedNames.separated(text)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert names[123_456] == "0123456.jpg"
    assert held < len(text) + 9_000_000
