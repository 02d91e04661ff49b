"""What ranks agree on, on two ranks of torchrun."""

from pathlib import Path


def test_ranks_wait_for_the_first_beyond_the_time_limit(tmp_path, start_two_ranks):
    """Four seconds, where the process group gives up after two."""
    start_two_ranks(Path(__file__).with_name("rank_waiting.py"), tmp_path)
    mistake = "the first rank has found a mistake"
    assert (tmp_path / "0.txt").read_text().split("\n") == ["7", "0", "3", mistake]
    assert (tmp_path / "1.txt").read_text().split("\n") == ["7", "None", "3", mistake]
