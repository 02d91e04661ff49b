"""One node of a Slurm job, a task of `srun`: ``python -m distill.daemon.node ... COMMAND``.

`srun` kills its tasks when it gets a TERM, but passes USR1 on. This module turns USR1 into the TERM
that jobs expect. It kills whatever the job leaves on this node, as the runner does on its own, and
whatever an earlier attempt left here.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from distill.daemon.processes import kill_tagged
from distill.daemon.supervision import StopRequest, note, run_to_end
from distill.fence import TAG_VARIABLE

_CANNOT_START = 127


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status, 128 + N if signal N ended it."""
    parser = argparse.ArgumentParser(prog="python -m distill.daemon.node")
    parser.add_argument("--grace", type=float, required=True, help="seconds from TERM to KILL")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    stop = StopRequest(options.grace, signal.SIGTERM)
    tag = os.environ[TAG_VARIABLE]
    run, _, attempt = tag.rpartition("#")
    # This process has the tag in its environment too, but it is a child of srun.
    while kill_tagged(Path(run), lambda name: name != attempt):
        time.sleep(0.05)
    try:
        status = run_to_end(options.command, tag, stop)
    except OSError as error:
        note(f"cannot start the job: {error}")
        return _CANNOT_START
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
