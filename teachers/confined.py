"""Looking at a file of others in a process of its own, with limits on memory and time.

A few bytes can ask for terabytes or for an endless loop, in libraries that have no limits of their
own. The process that looks is killed then, and this one goes on.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, Any, BinaryIO

from curation.errors import UserError
from teachers.setting_words import words_of_settings

KILLED = "it was killed"
"""The message of the error of a process that somebody else ended"""
_LONGEST_ANSWER = 8 << 20
_MOST_PAYLOAD = 1 << 30
_ENDING_SECONDS = 10.0
"""Of a process that has closed its answers"""


def confined(work: str, arguments: dict[str, Any], memory: int, seconds: int) -> Any:
    """``MODULE:FUNCTION(**arguments)``, all JSON, in a process of ``memory`` bytes at most.

    Those are of what it writes, not of the libraries that it maps; the function may ask for more by
    ``allow``, once it knows why. ``seconds`` are of its computing, in one thread. Raises the
    ``UserError`` that was raised there, at the limits ``MemoryError`` and ``TimeoutError``, and
    ``ChildProcessError`` where it crashed.
    """
    try:
        done = subprocess.run(
            _command("once", work, memory, seconds),
            input=json.dumps(arguments).encode(),
            capture_output=True,
            env=_environment(),
            timeout=20 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise TimeoutError
    if done.returncode:
        raise _crash(done.returncode, done.stderr)
    return _result(json.loads(done.stdout))


class ConfinedWorker:
    """A confined process that answers many requests, one after the other.

    ``MODULE:FUNCTION(**arguments)`` makes there, once, the function that each request is an
    argument of; it gives a value that is JSON, and some bytes. ``seconds`` are of one request. A
    process that crashed or came to a limit is followed by a new one at the next request. Nothing
    but JSON and bytes comes back: the process may have run somebody else's code.
    """

    def __init__(self, work: str, arguments: dict[str, Any], memory: int, seconds: int) -> None:
        self._arguments = arguments
        self._command = _command("many", work, memory, seconds)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._errors: IO[bytes] | None = None

    def start(self) -> Any:
        """Begin now, if not begun; what the making function has to say for itself, else None.

        Errors as of ``ask``.
        """
        if self._process is not None:
            return None
        if self._closed:
            raise ChildProcessError("it was ended")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - ``_end`` closes it
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
        )
        return self._exchange(self._arguments)[0]

    def ask(self, request: dict[str, Any]) -> tuple[Any, bytes]:
        """The answer to one request; errors as of ``confined``."""
        self.start()
        return self._exchange(request)

    def close(self) -> None:
        """End the process, whatever it is doing, for good; any thread may do that."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout, self._errors)):
                with suppress(OSError):  # what it did not take any more
                    pipe.close()

    def _exchange(self, request: dict[str, Any]) -> tuple[Any, bytes]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline(_LONGEST_ANSWER))
            size = min(int(answer["bytes"]), _MOST_PAYLOAD)
            payload = process.stdout.read(max(size, 0))
        except (OSError, ValueError, TypeError, LookupError):  # it ended, or wrote something else
            raise self._ended(process) from None
        if len(payload) != size:
            raise self._ended(process)
        return _result(answer), payload

    def _ended(self, process: "subprocess.Popen[bytes]") -> Exception:
        with suppress(subprocess.TimeoutExpired):  # it lives, and writes nonsense
            process.wait(_ENDING_SECONDS)
        errors = b""
        if self._errors is not None and not self._errors.closed:
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _LONGEST_ANSWER))
            errors = self._errors.read()
        code = process.poll() or 0
        self._end()
        return TimeoutError() if code == -signal.SIGXCPU else _crash(code, errors)


def _command(mode: str, work: str, memory: int, seconds: int) -> list[str]:
    start = [sys.executable, "-P", "-m", "teachers.confined"]
    return [*start, mode, work, str(memory), str(seconds)]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        **words_of_settings(),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }


def _crash(code: int, errors: bytes) -> ChildProcessError:
    if code == -signal.SIGKILL:
        return ChildProcessError(KILLED)
    lines = errors.decode(errors="replace").strip().splitlines()
    return ChildProcessError(lines[-1] if lines else f"it ended with {code}")


def _result(answer: dict[str, Any]) -> Any:
    if "mistake" in answer:
        raise UserError(answer["mistake"])
    if "memory" in answer:
        raise MemoryError
    return answer["result"]


def allow(memory: int) -> None:
    """Let this process write so many bytes, or as many as the system allows at most."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, most))


def _main(mode: str, work: str, memory: str, seconds: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    allow(int(memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = work.partition(":")
    with answers:
        if mode == "many":
            _answer_many(answers, module, name, int(seconds))
            return
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
        arguments = json.load(sys.stdin)
        answer, _ = _tried(lambda: (_find(module, name)(**arguments), b""))
        answers.write(json.dumps(answer).encode())


def _answer_many(answers: BinaryIO, module: str, name: str, seconds: int) -> None:
    """Until nobody asks any more: who asked has ended, or wants no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who asks
    function: Callable[..., tuple[Any, bytes]] | None = None
    for line in sys.stdin.buffer:
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        request = json.loads(line)
        if function is None:

            def begin(arguments: dict[str, Any] = request) -> tuple[Any, bytes]:
                nonlocal function
                function, told = _find(module, name)(**arguments)
                return told, b""

            answer, payload = _tried(begin)
        else:
            answer, payload = _tried(partial(function, **request))
        answers.write(json.dumps({**answer, "bytes": len(payload)}).encode() + b"\n" + payload)
        answers.flush()


def _find(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _tried(work: Callable[[], tuple[Any, bytes]]) -> tuple[dict[str, Any], bytes]:
    try:
        result, payload = work()
    except UserError as error:
        return {"mistake": str(error)}, b""
    except MemoryError:
        return {"memory": True}, b""
    return {"result": result}, payload


if __name__ == "__main__":
    _main(*sys.argv[1:])
