"""Collective operations on two ranks of torchrun."""

import json
from pathlib import Path

from distill.evaluation.features import BATCH


def test_ranks_wait_for_the_first_beyond_the_time_limit(tmp_path, start_two_ranks):
    """Four seconds, although the process group's timeout is two."""
    start_two_ranks(Path(__file__).with_name("rank_waiting.py"), tmp_path)
    mistake = "the first rank has found a mistake"
    assert (tmp_path / "0.txt").read_text().split("\n") == ["7", "0", "3", mistake]
    assert (tmp_path / "1.txt").read_text().split("\n") == ["7", "None", "3", mistake]


def test_ranks_share_the_images_of_a_scoring(tmp_path, start_two_ranks):
    start_two_ranks(Path(__file__).with_name("rank_scoring.py"), tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["together"] == second["together"] == first["alone"]
    assert len(first["alone"]) == 2
    # Of two and a half batches the first rank has the first and the third.
    assert (first["asked"], second["asked"]) == ([3 * BATCH // 2], [BATCH])
    assert first["said"] == second["said"]
    assert first["said"].startswith(f"bad, image {BATCH + 1}")
