"""Messages about a rank that failed."""

import os
import signal

import pytest

from distill.launcher import RankFailed


def test_the_last_line_of_a_huge_log_is_reported(tmp_path):
    log = tmp_path / "rank-1.txt"
    with log.open("wb") as file:
        os.truncate(log, 1 << 40)  # sparse: neither the disk nor memory could hold it
        file.seek(0, os.SEEK_END)
        file.write(b"\nerror: the third shard is damaged\n\n")
    assert str(RankFailed(1, 2, 1, log)).endswith("ends: error: the third shard is damaged")


@pytest.mark.parametrize("make", [lambda log: None, os.mkfifo, os.mkdir])
def test_a_log_that_cannot_be_read_says_nothing(tmp_path, make):
    log = tmp_path / "rank-1.txt"
    make(log)
    failed = RankFailed(1, 2, -signal.SIGKILL, log)
    assert "SIGKILL; was there enough memory?" in str(failed)
    assert str(failed).endswith("ends: it printed nothing")
