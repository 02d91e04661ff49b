"""The processes that draw the sample end with the command, however that ends."""

import subprocess
import sys
from pathlib import Path

import psutil

DRAW = """
import sys
from pathlib import Path
from curation.sample import write_sample

if __name__ == "__main__":
    tell = lambda done, total: print(done, flush=True)
    write_sample(Path(sys.argv[1]), progress=tell, processes=2)
"""


def test_workers_end_after_their_owner_was_killed(tmp_path: Path):
    script = tmp_path / "draw.py"
    script.write_text(DRAW)
    command = [sys.executable, str(script), str(tmp_path / "sample")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().strip() == b"1"  # the workers draw
        workers = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
    assert len(workers) >= 2
    _, left = psutil.wait_procs(workers, timeout=120)
    assert left == []
