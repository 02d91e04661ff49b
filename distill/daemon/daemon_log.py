"""The daemon's log on stderr, size-limited if it goes to the daemon's own log file."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from curation.printable import printable
from distill.process import print_to

LARGEST = 4 << 20
"""Maximum bytes of ``daemon.log`` before it is rotated to ``daemon.log.1``"""


class DaemonLog(logging.StreamHandler):
    """One line per record on stderr; if that is ``file``, rotates the file when it is large.

    Output that bypasses the handler, such as a traceback, goes to the new file too.
    """

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self._file = file
        self.setFormatter(_PrintableLines("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        with suppress(OSError):  # for example a full disk: the next line tries again
            self._begin_anew()

    def _begin_anew(self) -> None:
        status = os.fstat(sys.stderr.fileno())
        if self._file is None or status.st_size < LARGEST or not _leads_to(status, self._file):
            return
        self._file.replace(self._file.with_name(f"{self._file.name}.1"))
        print_to(self._file, 0o600)


def _leads_to(opened: os.stat_result, file: Path) -> bool:
    return file.exists() and os.path.samestat(opened, file.stat())


class _PrintableLines(logging.Formatter):
    """Escapes the daemon's messages: they include the reasons of jobs, which are arbitrary text."""

    def format(self, record: logging.LogRecord) -> str:
        # Indented, so that no reason can imitate a line of the log.
        return "\n  ".join(map(printable, super().format(record).split("\n")))
