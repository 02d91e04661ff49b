"""A function in a process of its own, which may crash without taking this one along."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from curation.errors import UserError
from curation.progress import Progress

Result = TypeVar("Result")


def run_isolated(
    function: Callable[..., Result], arguments: tuple[Any, ...], progress: Progress | None = None
) -> Result:
    """``function(*arguments, progress)``, a function of a module, in a fresh process.

    A ``UserError`` there is raised here. Raises ``ChildProcessError`` naming the signal where the
    process died.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        return _follow(here, progress)
    except EOFError:
        process.join()
        raise ChildProcessError(_name_of_end(process.exitcode or 0)) from None
    finally:
        process.kill()
        process.join()
        here.close()


def _follow(connection: Connection, progress: Progress | None) -> Any:
    while True:
        what, value = connection.recv()
        if what == "progress":
            if progress is not None:
                progress(*value)
        elif what == "mistake":
            raise UserError(value)
        else:
            return value


def _work(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # What liblmdb says before it aborts is not for people.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        result = function(*arguments, lambda *call: connection.send(("progress", call)))
    except UserError as error:
        connection.send(("mistake", str(error)))
    else:
        connection.send(("result", result))


def _name_of_end(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
