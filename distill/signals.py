"""What ends a job from outside: signals, a lost rank, a step of others, and being asked to stop."""

import signal

from curation.errors import UserError

FROM_OUTSIDE = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL})
"""Sent by an operator, a shutdown, or the kernel where memory is short. SIGSEGV, SIGABRT and their
kind are the process's own fault, and would come again."""

STEP_BUSY = 75
"""The exit status of a job that needs a step which another one does (EX_TEMPFAIL, sysexits.h)."""
RANK_LOST = 76
"""That of ranks which lost their connection to another one (EX_PROTOCOL, sysexits.h)."""


def signal_name(number: int) -> str:
    """``SIGKILL``; those that have no name by their number."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class RankLost(UserError):  # noqa: N818 - what happened
    """The connection to another rank is gone: that one knows why."""


class Stopped(Exception):  # noqa: N818 - not an error: the training was asked to stop, and saved
    """The training was asked to stop and has written a checkpoint."""
