"""The ranks of a job: started by a launcher, of which this process is one, or here by torchrun.

Every rank runs the whole job. Any launcher that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT works, such as torchrun, alone or under Slurm. Without a launcher, a job of several
ranks runs torchrun itself, and this process is its agent. On several nodes each has an agent, and
they find each other by ``NODES`` and ``RENDEZVOUS`` in their environment.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from curation.errors import UserError
from distill.last_words import last_line
from distill.process import die_with_parent, on_stop, print_to
from distill.run_directory import RANKS, read_log
from distill.signals import FROM_OUTSIDE, RANK_LOST, STEP_BUSY, signal_name

MODULE = "distill"
NODES, RENDEZVOUS = "DISTILL_NODES", "DISTILL_RENDEZVOUS"
"""The number of nodes that run ``distill run`` for this job, and HOST:PORT of the first one"""
_OF_ALL = (STEP_BUSY, 128 + signal.SIGTERM)
"""Exit statuses that all ranks share: the job gave way, or was stopped"""
_MOST_RANKS = 1 << 20
_LONGEST_LINE = 300
_LONGEST_END = 1 << 16  # bytes at the end of a log that are searched for its last line


class RankFailed(UserError):  # noqa: N818 - the name says what happened
    """One of the ranks failed: ``status`` is its exit status, or minus the number of a signal."""

    def __init__(self, rank: int, ranks: int, status: int, log: Path) -> None:
        how = f"was ended by {signal_name(-status)}" if status < 0 else "failed"
        memory = "; was there enough memory?" if status == -signal.SIGKILL else "."
        ending = f" Its log {log} ends: {_said_last(log)}" if rank > 0 else ""
        super().__init__(f"rank {rank} of {ranks} {how}{memory}{ending}")
        self.status = status

    @property
    def exit_status(self) -> int:
        """The exit status of the job: 128 + N if signal N came from outside, so that it may resume.

        If all ranks of this node lost another rank, that one is on another node and knows why.
        """
        if self.status == RANK_LOST:
            return RANK_LOST
        return 128 - self.status if -self.status in FROM_OUTSIDE else 1


def launched_ranks() -> int | None:
    """The number of ranks that a launcher started, including this process; None without one."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    rank, ranks = _number("RANK"), _number("WORLD_SIZE")
    if rank >= ranks:
        raise UserError(f"the launcher set RANK to {rank} and WORLD_SIZE to {ranks}")
    return ranks


def _number(variable: str) -> int:
    value = os.environ[variable]
    if not value.isascii() or not value.isdigit() or int(value[:9]) > _MOST_RANKS:
        raise UserError(f"the launcher set {variable} to {value!r}; it must be a small number")
    return int(value[:9])


def die_with_launcher() -> None:
    """Be killed when torchrun ends for any reason, because its ranks have their own sessions."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or not sys.platform.startswith("linux"):
        return
    launcher = os.getppid()
    die_with_parent()
    if os.getppid() != launcher:
        raise SystemExit("the launcher of this rank has ended")


def log_file(run: Path, rank: int) -> Path:
    """The file for everything that a rank and its libraries print."""
    return run / RANKS / f"rank-{rank}.txt"


def write_to_log(run: Path, rank: int) -> None:
    """Redirect everything that this process prints to its log, which is truncated first."""
    path = log_file(run, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    print_to(path, truncate=True)


def run_on_ranks(ranks: int, arguments: list[str], run: Path) -> int:
    """Run ``distill ARGUMENTS`` on that many ranks; returns the exit status of the job.

    All run on this machine, or an equal number on each of ``NODES``. The first rank writes to this
    process's terminal, the others to their logs in ``run``. A stop signal to this process reaches
    all of its ranks, and they end with it. Raises ``RankFailed``, except if the first rank failed
    with an exit status, because it has reported the reason, or if all ranks end with the same one.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    stop = _PassOn()
    nodes = _number(NODES) if NODES in os.environ else 1
    here = ranks // nodes
    threads = max(1, (os.cpu_count() or 1) // here)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    options = [*_meeting(nodes, run), "--nproc-per-node", str(here), "--max-restarts", "0"]
    options += ["--signals-to-handle", "SIGQUIT"]  # its own handlers let ranks save for 30 seconds
    try:
        torchrun(parse_args([*options, "-m", MODULE, *arguments]))
    except ChildFailedError as error:
        rank, status = _first_to_fail(error.failures)
        if stop.received and status in (-signal.SIGTERM, 128 + signal.SIGTERM):
            return 128 + stop.received
        if status > 0 and (rank == 0 or status in _OF_ALL):
            return status
        raise RankFailed(rank, ranks, status, log_file(run, rank)) from None
    except OSError as error:
        raise UserError(f"torchrun cannot start {ranks} ranks: {error}") from None
    return 0


def _meeting(nodes: int, run: Path) -> list[str]:
    """The torchrun options by which the agents of all nodes find each other."""
    if nodes == 1:
        return ["--standalone"]
    endpoint = ["--rdzv-backend", "c10d", "--rdzv-endpoint", os.environ[RENDEZVOUS]]
    return ["--nnodes", str(nodes), *endpoint, "--rdzv-id", run.name]


class _PassOn:
    """Forwards a stop signal to all ranks as SIGTERM; ends this process without ranks."""

    def __init__(self) -> None:
        self.received = 0
        on_stop(self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        ranks = [each for each in psutil.Process().children() if _is_rank(each)]
        if not ranks:
            raise SystemExit(128 + number)
        for each in ranks:
            _send_term(each)


def _is_rank(process: psutil.Process) -> bool:
    try:
        return MODULE in process.cmdline()
    except psutil.Error:
        return False


def _send_term(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.terminate()


def _first_to_fail(failures: Mapping[int, Any]) -> tuple[int, int]:
    """The rank that made the others fail, and its exit status, or minus a signal's number.

    A killed rank precedes those that lost their connection to it, and these precede the ones that
    torchrun then stopped.
    """

    def order(rank: int) -> tuple[bool, bool, bool, int]:
        status = failures[rank].exitcode
        return status == -signal.SIGTERM, status == RANK_LOST, status > 0, rank

    first = min(failures, key=order)
    return first, failures[first].exitcode


def _said_last(log: Path) -> str:
    try:
        end, _ = read_log(log, -_LONGEST_END)
        return last_line(end.decode(errors="replace"))[:_LONGEST_LINE]
    except (OSError, UserError):
        return last_line("")
