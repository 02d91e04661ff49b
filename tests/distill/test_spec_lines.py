"""The line of a key in a spec, as messages name it."""

import time

import pytest

from distill.spec_lines import line_of

TEXT = """\
name = "try"  # [data]

[data]
train = "a = b"
[teacher.network]
backbone = "x"
[[stage]]
epochs = 1
losses = { arcface = { margin = 0.5 } }
[stage.sampler]
kind = "pk"
[[ stage ]] # the second
"epochs" = 2
a.b = 3
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("name",), 1),
        (("data", "train"), 4),
        (("teacher", "network", "backbone"), 6),
        (("stage", 0, "epochs"), 8),
        (("stage", 0, "losses", "arcface", "margin"), 9),
        (("stage", 0, "sampler", "kind"), 11),
        (("stage", 1, "epochs"), 13),
        (("stage", 1, "a", "b"), 14),
        (("stage", 1, "losses"), 12),
        (("data", "missing"), 3),
        (("student",), None),
        ((), None),
    ],
)
def test_the_line_of_a_key_or_of_the_table_around_it(location, line):
    assert line_of(TEXT, location) == line


@pytest.mark.parametrize("text", [" " * 10**6, "[" * 10**6, "a." * 10**5 + "=", "\n=" * 10**5])
def test_odd_text_takes_no_time(text):
    started = time.process_time()
    line_of(text, ("stage", 0))
    assert time.process_time() - started < 2
