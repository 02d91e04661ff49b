"""torchrun on this machine: ``python -m distill.training.torchrun RANKS FAILURE MODULE ARGUMENT``.

torchrun itself (``torch.distributed.run``) does the work. What is added: its ranks and it die with
whoever started it, and it leaves in the file FAILURE which rank failed first and how.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent() -> None:
    """Be killed when the process that started this one ends, however it ends.

    torchrun's ranks have sessions of their own, so nothing else would reach them.
    """
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the process that started this one has ended")


def main(arguments: list[str]) -> int:
    """Run the module on that many ranks; 1 where one of them failed."""
    die_with_parent()
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
    from torch.distributed.run import parse_args, run

    ranks, failure_file, *command = arguments
    options = ["--standalone", "--nproc-per-node", ranks, "--max-restarts", "0", "-m", *command]

    def guilt(failure: ProcessFailure) -> tuple[bool, bool]:
        """A rank that was killed comes before those that then lost their connection to it."""
        return failure.exitcode == -signal.SIGTERM, failure.exitcode > 0

    try:
        run(parse_args(options))
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda pair: guilt(pair[1]))
        first = {"rank": rank, "status": failure.exitcode}
        Path(failure_file).write_text(json.dumps(first))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
