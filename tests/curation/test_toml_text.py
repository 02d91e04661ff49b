"""Untrusted TOML is read in bounded time and memory; errors are one line."""

import time

import pytest

from curation.errors import UserError
from curation.toml_text import LARGEST, LARGEST_INTEGER, MOST_PARTS, read_toml
from tests.memory import traced_memory


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "9" * 5000, "integer of more than 64 bits"),
        ("x = 0x" + "f" * 5000, "the file:1:5: an integer of more than 64 bits"),
        ("[t]\ny = [1, [-9223372036854775809]]", "the file:2:10: an integer"),
        ("a" + ".a" * 20_000 + " = 1", "a dotted key has more than 32 parts"),
        ("\n[" + '"b" . ' * 40 + "b]", "the file:2:"),
        ("[['" + "b'. '" * 40 + "b']]", "a dotted key has"),
        ("x = {y = 1, " + "a.a." * 20 + "b = 1}", "a dotted key has"),
        ('x = {y = """"a""""", ' + "a." * 40 + "b = 1}", "a dotted key has"),
        ("x = {y = 'it\"s', " + "a." * 40 + "b = 1}", "a dotted key has"),
        ("".join(f"[{'a.' * 30}b{i}]\n" for i in range(10_000)), "is larger than 64 KiB"),
        ("a" * 60_000 + " = 1\n" + "a" * 60_000 + " = 1", "is larger than 64 KiB"),
        ("[" + "a" * 20_000 + "]\n[" + "a" * 20_000 + "]", "the file:2:2: 'aaa"),
        ("x = " + "[" * 60_000, "nested too deeply"),
        ("x = " + "{a=" * 5000, "nested too deeply"),
        ("x = 1\nx = 2", "the file:2:1: 'x' is given twice, first in line 1"),
        ("x = 2001-99-99", "not TOML"),
        ("\0", "not TOML"),
        ("[t]\nx = 'abc", 'the file:2:9: not TOML: Expected "\'"'),
        ("a = 1\n\nb = tru\n", "the file:3:5: not TOML: Invalid value"),
        ("a = [1]\n[[a]]", "the file:2:4: not TOML: Cannot mutate"),
    ],
    ids=lambda value: value[:20],
)
def test_invalid_toml_is_one_line(text, words):
    began = time.process_time()
    with traced_memory() as memory, pytest.raises(UserError, match=r"^the file") as error:
        read_toml(text, "the file")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert memory.peak < 30e6
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"[{'a.' * 31}k{i}]\n" for i in range(900)),
        "".join(f"k{i}.{'a.' * 30}a = 1\n" for i in range(850)),
        "".join(f"x{i} = {'{a=' * 64}1{'}' * 64}\n" for i in range(240)),
        "".join(f"x{i} = {'[' * 64}{']' * 64}\n" for i in range(480)),
        "[[a]]\n" * 9_000,
        "x = [" + "[]," * 20_000 + "]",
        "x = " + "9" * 60_000 + "e9",
        'x = "' + "\\u0041" * 10_000 + '"',
        "x = '\"" + '\\"' * 30_000 + "'",
        "#" + '"' * 60_000,
    ],
    ids=lambda value: value[:20],
)
def test_the_worst_allowed_document_is_cheap(text):
    assert len(text) <= LARGEST
    began = time.process_time()
    with traced_memory() as memory:
        read_toml(text, "x")
    assert memory.peak < 50e6
    assert time.process_time() - began < 10


def test_dots_in_comments_strings_and_numbers_do_not_count():
    numbers, dots, quotes = ", ".join(["0.5"] * 100), "a.b. " * 100, '"' * 3
    text = f"""# {dots}
        x = [{numbers}]
        y = {LARGEST_INTEGER}
        z = "{dots}\\"{dots}"  # {dots}
        paths = ["../a.b.c.d.tar.gz", '{dots}']
        {"k." * (MOST_PARTS - 1)}k = 1
        long = {quotes}"{dots}
        {dots}\\"{quotes}"""
    document = read_toml(text, "x")
    assert document["x"] == [0.5] * 100
    assert document["y"] == LARGEST_INTEGER
    assert document["z"] == f'{dots}"{dots}'
    assert document["paths"] == ["../a.b.c.d.tar.gz", dots]
    assert document["long"].count(dots) == 2
