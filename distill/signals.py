"""What ends a job through no fault of its own: signals, and being asked to stop."""

import signal

FROM_OUTSIDE = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL})
"""Sent by an operator, a shutdown, or the kernel where memory is short. SIGSEGV, SIGABRT and their
kind are the process's own fault, and would come again."""


def signal_name(number: int) -> str:
    """``SIGKILL``; those that have no name by their number."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class Stopped(Exception):  # noqa: N818 - not an error: the training was asked to stop, and saved
    """The training was asked to stop and has written a checkpoint."""
