"""How a job is ended from outside: signals, a lost rank, a step of another job, a stop request."""

import signal

from curation.errors import UserError

FROM_OUTSIDE = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1}
)
"""Sent by an operator, a shutdown, Slurm, or the kernel when memory is short. Slurm's USR1 ends a
process that has no handler yet. SIGSEGV, SIGABRT and similar signals are the process's own
fault and would recur."""

STEP_BUSY = 75
"""Exit status of a job that needs a step another job is doing (EX_TEMPFAIL, sysexits.h)."""
RANK_LOST = 76
"""Exit status of ranks that lost their connection to another rank (EX_PROTOCOL, sysexits.h)."""


def signal_name(number: int) -> str:
    """``SIGKILL``; the number if the signal has no name."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class RankLost(UserError):  # noqa: N818 - the name says what happened
    """The connection to another rank, which knows the cause, is lost."""


class Stopped(Exception):  # noqa: N818 - not an error: the training was asked to stop, and saved
    """The training was asked to stop and has written a checkpoint."""
