"""Readers with every fault that a campaign must find, for the campaign's own tests."""

import os
import signal
import time
from pathlib import Path

from curation.errors import UserError
from tests.fuzz.harness import Files, reader


def _one_file() -> list[Files]:
    return [{"file.json": b'{"count": 3}'}]


@reader("refuses", _one_file)
def refuses(folder: Path) -> None:
    raise UserError("no")


@reader("raises", _one_file)
def raises(folder: Path) -> None:
    raise KeyError("count")


@reader("dies", _one_file)
def dies(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGBUS)


@reader("exits", _one_file)
def exits(folder: Path) -> None:
    os._exit(3)


@reader("hangs", _one_file)
def hangs(folder: Path) -> None:
    time.sleep(1000)


@reader("hoards", _one_file)
def hoards(folder: Path) -> None:
    (folder.parent / "beside").write_bytes(b"\1" * (300 << 20))


@reader("asks for too much", _one_file)
def asks_for_too_much(folder: Path) -> None:
    bytearray(8 << 30)
