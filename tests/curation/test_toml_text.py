"""TOML from others is read with bounded time and memory; what cannot be read is one line."""

import time
import tracemalloc

import pytest

from curation.errors import UserError
from curation.toml_text import LARGEST_INTEGER, MOST_DOTS, read_toml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "9" * 5000, "integer of more than 64 bits"),
        ("x = 0x" + "f" * 5000, "'x' is an integer of more than 64 bits"),
        ("[t]\ny = [1, [-9223372036854775809]]", "'y' is an integer"),
        ("a" + ".a" * 20_000 + " = 1", "line 1 has 20,000 dots; allowed: up to 32"),
        ("\n[" + '"b" . ' * 40 + "b]", "line 2 has 40 dots"),
        ("x = {" + "a.a." * 20 + "b = 1}", "line 1 has 40 dots"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "{a=" * 5000, "nested too deeply"),
        ("x = 1\nx = 2", "not TOML"),
        ("x = 2001-99-99", "not TOML"),
        ("\0", "not TOML"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_toml_of_ours_is_one_line(text, words):
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(UserError, match=r"^the file") as error:
            read_toml(text, "the file")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200
    assert peak < 30e6
    assert time.process_time() - began < 10


def test_dots_in_comments_and_a_few_numbers_are_fine():
    comment, numbers = "# " + "." * 100, ", ".join(["0.5"] * MOST_DOTS)
    document = read_toml(f"{comment}\nx = [{numbers}]\ny = {LARGEST_INTEGER}", "x")
    assert document == {"x": [0.5] * MOST_DOTS, "y": LARGEST_INTEGER}
