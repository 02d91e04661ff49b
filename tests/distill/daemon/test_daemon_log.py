"""The daemon's log: in its own file, of bounded size, and readable for any job name."""

import subprocess
import sys
from pathlib import Path

LOGS = """
import logging, sys
from pathlib import Path
from distill.daemon import daemon_log
daemon_log.LARGEST = 10_000
log = logging.getLogger("distill.daemon")
log.addHandler(daemon_log.DaemonLog(Path(sys.argv[1])))
for number in range(1000):
    log.error("line %d of the log", number)
sys.stderr.write("a traceback\\n")
"""


def logged(stderr: Path, file: Path) -> None:
    with stderr.open("ab") as said:
        subprocess.run([sys.executable, "-c", LOGS, file], stderr=said, check=True)


def test_a_large_log_is_rotated_and_the_last_one_kept(tmp_path: Path) -> None:
    log, before = tmp_path / "daemon.log", tmp_path / "daemon.log.1"
    logged(log, log)
    assert log.stat().st_size < 11_000
    assert before.stat().st_size < 11_000
    lines = (before.read_text() + log.read_text()).splitlines()
    assert lines[-1] == "a traceback"
    numbers = [int(line.split()[4]) for line in lines[:-1]]
    assert numbers == list(range(numbers[0], 1000))
    assert sorted(tmp_path.iterdir()) == [log, before]


def test_a_terminal_or_another_file_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    logged(other, tmp_path / "daemon.log")
    assert len(other.read_text().splitlines()) == 1001
    assert sorted(tmp_path.iterdir()) == [other]
