"""What is fuzzed: the readers of files that others made, each with valid samples of its input.

A file dropped into ``readers/`` is enough. ``just fuzz`` runs them all, each input in a worker that
may die; an input follows from (reader, seed, number) alone, so a failure can be made again.
"""

import importlib
import os
import pkgutil
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path


class Special(StrEnum):
    """Something that is not a regular file, where one is expected."""

    PIPE = "named pipe"
    FOLDER = "folder"
    NOWHERE = "link to nothing"
    LOOP = "link to itself"
    ZERO = "link to /dev/zero"


Files = Mapping[str, bytes | Special]
"""One input: what lies at each path of a folder"""
Mutator = Callable[[random.Random, dict[str, bytes | Special]], None]
"""Changes one thing of an input, in place"""


@dataclass(frozen=True)
class Reader:
    """``read(folder)`` does with an input what a command does with it.

    It returns, or raises the ``UserError`` that a command would print; anything else is a defect.
    It may write beside ``folder``.
    """

    name: str
    read: Callable[[Path], object]
    make: Callable[[], Sequence[Files]]
    """Makes valid inputs, always the same"""
    mutators: tuple[Mutator, ...]
    """Beside those for all kinds of files: what only this format has (a checksum to sign again)"""
    share: float
    """How many inputs it gets of a long run, relative to the others: fewer where one takes long"""

    @cached_property
    def samples(self) -> Sequence[Files]:
        return self.make()

    @property
    def module(self) -> str:
        return self.read.__module__


_READERS: dict[str, Reader] = {}


def reader(
    name: str,
    samples: Callable[[], Sequence[Files]],
    mutators: Sequence[Mutator] = (),
    share: float = 1.0,
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Register the function that reads; see ``Reader``."""

    def register(read: Callable[[Path], object]) -> Callable[[Path], object]:
        _READERS[name] = Reader(name, read, samples, tuple(mutators), share)
        return read

    return register


def readers() -> dict[str, Reader]:
    """All readers of ``readers/``, by name."""
    package = importlib.import_module("tests.fuzz.readers")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return {n: r for n, r in sorted(_READERS.items()) if r.module.startswith(package.__name__)}


def find(module: str, name: str) -> Reader:
    """The reader that a module registers."""
    importlib.import_module(module)
    return _READERS[name]


def lay_out(files: Files, folder: Path) -> None:
    """Write an input to a folder that does not exist."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            _lay_special(content, path)


def take_in(folder: Path) -> Files:
    """The regular files below a folder, as an input."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _lay_special(kind: Special, path: Path) -> None:
    match kind:
        case Special.PIPE:
            os.mkfifo(path)
        case Special.FOLDER:
            path.mkdir(exist_ok=True)
        case Special.NOWHERE:
            path.symlink_to("nowhere")
        case Special.LOOP:
            path.symlink_to(path.name)
        case Special.ZERO:
            path.symlink_to("/dev/zero")
