"""Processing of untrusted files in a separate process with limits on memory and time.

A few bytes can request terabytes or an endless loop from libraries without limits of their own.
The process is then killed, and this one continues.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any, BinaryIO

from curation.errors import UserError
from curation.printable import printable
from teachers.setting_words import words_of_settings

KILLED = "it was killed"
"""The error message if another process killed it"""
_LONGEST_ANSWER = 8 << 20
_MOST_PAYLOAD = 1 << 30
_ENDING_SECONDS = 10.0
"""Time limit for a process to exit after it closed its output"""
_LOOK_SECONDS = 5.0
_MOST_IDLE_LOOKS = 12
"""Consecutive looks at a process that sleeps without using CPU time, before it is killed"""
_WAIT_FOR_CPU = 20
"""Time limit of a process per CPU second that it may use, because other processes run, too"""


def confined(work: str, arguments: dict[str, Any], memory: int, seconds: int) -> Any:
    """Run ``MODULE:FUNCTION(**arguments)``, all JSON, in a process with at most ``memory`` bytes.

    ``memory`` limits writable memory, not mapped libraries; the function may call ``allow`` to
    raise it. ``seconds`` limits CPU time, in one thread. A process that hangs is killed. Re-raises
    a ``UserError`` of the function; raises ``MemoryError`` or ``TimeoutError`` at the limits, and
    ``ChildProcessError`` after a crash.
    """
    with subprocess.Popen(
        _command("once", work, memory, seconds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    ) as process:
        try:
            with _killed_if_it_hangs(process, seconds):
                answer, errors = process.communicate(json.dumps(arguments).encode())
        finally:
            process.kill()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise TimeoutError
    try:
        result = {} if process.returncode else json.loads(answer)
    except ValueError:  # a library ended the process
        result = {}
    if not result:
        raise _crash(process.returncode, errors)
    return _result(result)


class ConfinedWorker:
    """A confined process that answers a sequence of requests.

    ``MODULE:FUNCTION(**arguments)`` runs there once and returns the function that handles each
    request; that function returns a JSON value and bytes. ``seconds`` applies to each request.
    After a crash, a hang or a limit, the next request starts a new process. Only JSON and bytes are
    accepted from the process, because it may have run untrusted code.
    """

    def __init__(self, work: str, arguments: dict[str, Any], memory: int, seconds: int) -> None:
        self._arguments = arguments
        self._command = _command("many", work, memory, seconds)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._errors: IO[bytes] | None = None

    def start(self) -> Any:
        """Start the process if necessary; returns what the factory function reports, or None.

        Raises the same errors as ``ask``.
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
        """The answer to one request; raises the errors of ``confined``."""
        self.start()
        return self._exchange(request)

    def close(self) -> None:
        """Kill the process for good; may be called from any thread."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout, self._errors)):
                with suppress(OSError):  # unsent input
                    pipe.close()

    def _exchange(self, request: dict[str, Any]) -> tuple[Any, bytes]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with _killed_if_it_hangs(process, self._seconds) as killed:
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline(_LONGEST_ANSWER))
                size = min(int(answer["bytes"]), _MOST_PAYLOAD)
                payload = process.stdout.read(max(size, 0))
                whole = len(payload) == size
            except (OSError, ValueError, TypeError, LookupError):  # it exited or sent invalid data
                whole = False
        if killed.is_set():
            self._end()
            raise TimeoutError
        if not whole:
            raise self._ended(process)
        return _result(answer), payload

    def _ended(self, process: "subprocess.Popen[bytes]") -> Exception:
        with suppress(subprocess.TimeoutExpired):  # it is alive and sends invalid data
            process.wait(_ENDING_SECONDS)
        errors = b""
        if self._errors is not None and not self._errors.closed:
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _LONGEST_ANSWER))
            errors = self._errors.read()
        code = process.poll() or 0
        self._end()
        return TimeoutError() if code == -signal.SIGXCPU else _crash(code, errors)


@contextmanager
def _killed_if_it_hangs(process: "subprocess.Popen[bytes]", seconds: int) -> Iterator[Event]:
    """Watch a process that may use ``seconds`` of CPU time; yields the event that it was killed.

    Threads of a library that wait for each other use no CPU time. Looks are counted instead of
    seconds, so that a suspended command loses nothing.
    """
    done, killed = Event(), Event()

    def watch() -> None:
        looks = idle = 0
        before = None
        while not done.wait(_LOOK_SECONDS):
            now = _cpu_time_of_sleeper(process.pid)
            idle = idle + 1 if now is not None and now == before else 0
            looks, before = looks + 1, now
            if idle >= _MOST_IDLE_LOOKS or looks * _LOOK_SECONDS > _WAIT_FOR_CPU * seconds:
                killed.set()
                process.kill()
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def _cpu_time_of_sleeper(pid: int) -> tuple[str, ...] | None:
    """The CPU time that a sleeping process has used; None if it runs or waits for a disk.

    None on systems without ``/proc``, too.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return tuple(fields[10:12]) if state == "S" else None  # proc(5): utime and stime


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
    return ChildProcessError(
        printable(lines[-1].strip()[:200]) if lines else f"it ended with {code}"
    )


def _result(answer: dict[str, Any]) -> Any:
    if "mistake" in answer:
        raise UserError(answer["mistake"])
    if "memory" in answer:
        raise MemoryError
    return answer["result"]


def allow(memory: int) -> None:
    """Raise this process's memory limit to ``memory`` bytes, or to the system's maximum."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, most))


def end_with_parent() -> None:
    """End this process soon after its parent, even if a library hangs then."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _main(mode: str, work: str, memory: str, seconds: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps the output of libraries out of the answers
    end_with_parent()
    allow(int(memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = work.partition(":")
    with answers:
        if mode == "many":
            _answer_many(answers, module, name, int(seconds))
            os._exit(0)  # threads of a library may wait for ever at the end, after the parent
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
        arguments = json.load(sys.stdin)
        answer, _ = _tried(lambda: (_find(module, name)(**arguments), b""))
        answers.write(json.dumps(answer).encode())


def _answer_many(answers: BinaryIO, module: str, name: str, seconds: int) -> None:
    """Answer requests until the parent ends or closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    function: Callable[..., tuple[Any, bytes]] | None = None
    for line in sys.stdin.buffer:
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        request = json.loads(line)
        if function is None:

            def begin(arguments: dict[str, Any] = request) -> tuple[Any, bytes]:
                nonlocal function
                function, result = _find(module, name)(**arguments)
                return result, b""

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
