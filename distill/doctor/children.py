"""Runs other processes that may crash or hang: an import, a driver's program."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from curation.json_text import parse_json
from distill.last_words import last_line

IMPORT_SECONDS = 90.0
"""Time limit for importing a large package from a slow disk, in parallel with others"""
_LARGEST_ANSWER = 1 << 20
_KILL_SECONDS = 5.0


class NoAnswerError(Exception):
    """A process gave no answer; the message is one line with the reason."""


def ask(command: Sequence[str], seconds: float) -> str:
    """The output of the command; ``NoAnswerError`` if it fails or exceeds the time limit.

    In every case its process group is killed at the end. Its output goes to a file, because a
    process that it leaves running could keep a pipe open forever.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise NoAnswerError(f"{command[0]}: {error.strerror}") from None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"no answer in {seconds:.0f} s") from None
        finally:
            _kill(process)
        for file in (output, errors):
            file.seek(0)
        answer = output.read(_LARGEST_ANSWER).decode(errors="replace")
        if status != 0:
            why = last_line(errors.read(_LARGEST_ANSWER).decode(errors="replace") or answer)
            raise NoAnswerError(why or _status_in_words(status))
        return answer


def ask_python(code: str) -> Any:
    """The JSON in the last line that Python prints for the code; else ``NoAnswerError``."""
    answer = ask([sys.executable, "-c", code], IMPORT_SECONDS)
    try:
        return parse_json((answer.strip().splitlines() or [""])[-1].encode())
    except ValueError:
        raise NoAnswerError("its output is not the expected JSON") from None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # if signals do not reach it
        process.wait(_KILL_SECONDS)


def _status_in_words(status: int) -> str:
    if status < 0:
        return f"it was ended by signal {-status}"
    return f"it ended with status {status}"
