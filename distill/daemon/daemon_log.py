"""What the daemon says, on stderr; where that is the daemon's own log file, of bounded size."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from curation.printable import printable
from distill.process import print_to

LARGEST = 4 << 20
"""Bytes of ``daemon.log``. Then it begins anew; the one before is kept as ``daemon.log.1``."""


class DaemonLog(logging.StreamHandler):
    """A line each on stderr; where it leads to ``file``, that one begins anew when it is large.

    What is written past the handler, such as a traceback, goes to the new file too.
    """

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self._file = file
        self.setFormatter(_PrintableLines("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        with suppress(OSError):  # on a full disk, say: the next line tries again
            self._begin_anew()

    def _begin_anew(self) -> None:
        told = os.fstat(sys.stderr.fileno())
        if self._file is None or told.st_size < LARGEST or not _leads_to(told, self._file):
            return
        self._file.replace(self._file.with_name(f"{self._file.name}.1"))
        print_to(self._file, 0o600)


def _leads_to(opened: os.stat_result, file: Path) -> bool:
    return file.exists() and os.path.samestat(opened, file.stat())


class _PrintableLines(logging.Formatter):
    """Reasons of jobs are in what the daemon says, and may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        # Indented, so that no reason can begin a line that looks like ours.
        return "\n  ".join(map(printable, super().format(record).split("\n")))
