"""Runs formats whose library is not safe for untrusted files, each in a confined process."""

import base64
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.printable import printable
from teachers.confined import ConfinedWorker, allow

MEMORY, COPIES, SECONDS = 4 << 30, 6, 120
"""Limits: bytes of memory plus this many copies of the files, and CPU seconds per batch.

Libraries copy weights to the layout of their kernels.
"""
BATCH = 8


class FormatProcess:
    """`Embed` in another process, which ends with this object.

    An exporter may set the ``digest`` of the files; then features can be cached.
    """

    digest = ""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        memory = MEMORY + COPIES * size
        arguments = {"name": name, "folder": str(folder.resolve()), "memory": memory}
        worker = ConfinedWorker(f"{__name__}:serve", arguments, memory, SECONDS)
        self._worker = worker
        weakref.finalize(self, worker.close)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        parts = [self._embed(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts)

    def _embed(self, pixels: np.ndarray) -> np.ndarray:
        encoded = base64.b64encode(np.ascontiguousarray(pixels, "<f4").tobytes()).decode()
        try:
            shape, content = self._worker.ask({"pixels": encoded, "shape": pixels.shape})
        except (MemoryError, TimeoutError, ChildProcessError) as error:
            why = {MemoryError: "take too much memory", TimeoutError: "take too much time"}
            fault = why.get(type(error), f"crash their runtime ({error})")
            raise UserError(
                f"{self._folder}: its {self._name} files {fault}; use another format of the bundle"
            ) from None
        found = np.frombuffer(content, "<f4")
        if found.size != np.prod(shape):
            raise UserError(f"{self._folder}: its {self._name} files do not return embeddings")
        return found.reshape(shape)


def serve(name: str, folder: str, memory: int) -> tuple[Callable[..., tuple[Any, bytes]], None]:
    """Entry point for `ConfinedWorker`: a function that embeds pixels with a format's files."""
    from distill.export.exporter import exporters

    allow(memory)
    with _failing(name, folder):
        run = exporters()[name].run(Path(folder))

    def embed(pixels: str, shape: list[int]) -> tuple[list[int], bytes]:
        given = np.frombuffer(base64.b64decode(pixels), "<f4").reshape(shape)
        with _failing(name, folder):
            found = np.ascontiguousarray(run(given), "<f4")
        return list(found.shape), found.tobytes()

    return embed, None


@contextmanager
def _failing(name: str, folder: str) -> Iterator[None]:
    """Raise ``UserError`` for the exceptions of a library, with the last line of its message."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(
            f"{folder}: its {name} files cannot be run ({printable(reason[:200])}); update what "
            f"runs {name}, or use another format of the bundle"
        ) from None
