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
from typing import Any

from curation.errors import UserError


def confined(work: str, arguments: dict[str, Any], memory: int, seconds: int) -> Any:
    """``MODULE:FUNCTION(**arguments)``, all JSON, in a process of ``memory`` bytes at most.

    Those are of what it writes, not of the libraries that it maps; the function may ask for more by
    ``allow``, once it knows why. ``seconds`` are of its computing, in one thread. Raises the
    ``UserError`` that was raised there, at the limits ``MemoryError`` and ``TimeoutError``, and
    ``ChildProcessError`` where it crashed.
    """
    command = [sys.executable, "-P", "-m", "teachers.confined", work, str(memory), str(seconds)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    try:
        done = subprocess.run(
            command,
            input=json.dumps(arguments).encode(),
            capture_output=True,
            env=environment,
            timeout=20 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise TimeoutError
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ChildProcessError(lines[-1] if lines else f"it ended with {done.returncode}")
    answer = json.loads(done.stdout)
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


def _main(work: str, memory: str, seconds: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    allow(int(memory))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    arguments = json.load(sys.stdin)
    answer: dict[str, Any]
    try:
        module, _, function = work.partition(":")
        answer = {"result": getattr(importlib.import_module(module), function)(**arguments)}
    except UserError as error:
        answer = {"mistake": str(error)}
    except MemoryError:
        answer = {"memory": True}
    with answers:
        json.dump(answer, answers)


if __name__ == "__main__":
    _main(*sys.argv[1:])
