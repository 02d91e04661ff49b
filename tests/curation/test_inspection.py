"""The output of ``curate inspect`` for a view, as numbers and as a drawing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.inspection import histogram, inspect_path
from curation.subsets import write_cap, write_long_tail_cut, write_union
from distill.cli.curate.drawing import histogram_lines, step_lines


@pytest.fixture
def view(store, tmp_path):
    """A view of 5 identities with 16 images, reduced to 3 with 13 and then 11, then all again."""
    cut = write_long_tail_cut(tmp_path / "cut.view", store, 3)
    capped = write_cap(tmp_path / "capped.view", cut, 4)
    return write_union(tmp_path / "all.view", capped, store)


@given(st.lists(st.integers(1, 3000), min_size=1))
def test_each_identity_is_in_exactly_one_bin(counts):
    bins = histogram(np.array(counts))
    for entry in bins:
        inside = [count for count in counts if entry["from"] <= count <= entry["to"]]
        assert (entry["identities"], entry["images"]) == (len(inside), sum(inside))
    assert sum(entry["images"] for entry in bins) == sum(counts)
    assert bins[-1]["identities"] > 0


def test_bins_about_double_and_have_round_ends():
    ends = [(entry["from"], entry["to"]) for entry in histogram(np.array([900]))]
    assert ends == [
        (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100),
        (101, 200), (201, 500), (501, 1000),
    ]  # fmt: skip


def test_the_history_says_what_each_step_kept(view):
    history = inspect_path(view.path)["history"]
    assert [step["name"] for step in history] == ["long-tail-cut", "cap", "union"]
    assert [step["images_kept"] for step in history] == [0.8125, 0.8462, 1.4545]
    assert [step["identities_kept"] for step in history] == [0.6, 1.0, 1.6667]


def test_a_store_and_a_record_file_have_a_histogram_too(store, write_source):
    for path in (store.path, write_source({2: 4, 3: 1, 5: 6, 7: 2, 11: 3}, "again")):
        found = inspect_path(path)["histogram"]
        assert [entry["identities"] for entry in found] == [1, 1, 2, 1]


class TestDrawing:
    def test_steps_are_a_table_with_counts_before_and_after(self, view):
        lines = step_lines(inspect_path(view.path)["history"], 80)
        assert lines == [
            "step          before   after     kept",
            "1 long-tail-cut (minimum 3)",
            "  identities       5       3    60.0%",
            "  images          16      13    81.2%",
            "2 cap (maximum 4, seed 0)",
            "  identities       3       3   100.0%",
            "  images          13      11    84.6%",
            "3 union (with ../train.lmdb)",
            "  identities       3       5   166.7%",
            "  images          11      16   145.5%",
            "all steps",
            "  identities       5       5   100.0%",
            "  images          16      16   100.0%",
        ]

    @pytest.mark.parametrize("width", [40, 60, 80])
    @pytest.mark.parametrize("blocks", [True, False])
    def test_the_longest_bar_fills_the_width(self, width, blocks):
        counts = np.repeat([1, 7, 60, 4000], [90_000, 10, 1, 300])
        lines = histogram_lines(histogram(counts), width, blocks)
        assert max(map(len, lines)) == width
        bars = [line.split("  ")[-1] for line in lines[1:]]
        assert bars[0].count("█" if blocks else "#") == len(bars[0])
        assert ("images" in lines[0].split("identities")[1]) == (width >= 60)

    def test_the_rarest_bin_is_visible_and_an_empty_one_is_not(self):
        lines = histogram_lines(histogram(np.repeat([1, 5], [100_000, 1])), 60)
        assert lines[2].split() == ["2", "0", "0"]
        assert lines[3].split() == ["3-5", "1", "5", "▏"]

    def test_bar_lengths_are_exact_to_an_eighth(self):
        lines = histogram_lines(histogram(np.repeat([1, 2, 3], [80, 40, 3])), 59)
        bars = [line.split()[-1] for line in lines[1:]]
        room = len(bars[0])
        eighths = [len(bars[1].rstrip("▌")) * 8 + 4 * bars[1].endswith("▌")]
        assert eighths == [round(room * 4)]

    @pytest.mark.parametrize("columns", ["40", "120"])
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_the_drawing_agrees_with_the_json(self, view, columns, encoding):
        command = [sys.executable, "-m", "distill.cli.curate", "inspect", str(view.path)]
        environment = os.environ | {"COLUMNS": columns, "PYTHONIOENCODING": encoding}
        drawn = subprocess.run(command, env=environment, capture_output=True, check=True)
        text = drawn.stdout.decode(encoding)
        found = json.loads(subprocess.run([*command, "--json"], capture_output=True).stdout)
        for line in step_lines(found["history"], int(columns)):
            assert line in text
        histogram = text[text.index("images each") :].splitlines()
        assert max(map(len, histogram)) == min(80, int(columns))
        assert ("█" in text) == (encoding == "utf-8")
