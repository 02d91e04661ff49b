"""The registry of fuzzed readers: each reads untrusted files, and provides valid samples.

A new file in ``readers/`` is enough. ``just fuzz`` runs all readers, each input in a worker that
may die. An input depends only on (reader, seed, number), so every failure is reproducible.
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
    """Something other than the expected regular file."""

    PIPE = "named pipe"
    FOLDER = "folder"
    NOWHERE = "link to nothing"
    LOOP = "link to itself"
    ZERO = "link to /dev/zero"


Files = Mapping[str, bytes | Special]
"""One input: the contents at each path of a folder"""
Mutator = Callable[[random.Random, dict[str, bytes | Special]], None]
"""Modifies one part of an input in place"""


@dataclass(frozen=True)
class Reader:
    """``read(folder)`` treats an input as a command would.

    It returns, or raises the ``UserError`` that a command would print; anything else is a defect.
    It may write next to ``folder``.
    """

    name: str
    read: Callable[[Path], object]
    make: Callable[[], Sequence[Files]]
    """Creates valid inputs, always the same ones"""
    mutators: tuple[Mutator, ...]
    """Mutators specific to this format, such as one that updates a checksum"""
    share: float
    """The reader's share of the inputs relative to others; smaller for slow readers"""

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
    """Register a reading function; see ``Reader``."""

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
    """The reader that a module registers under this name."""
    importlib.import_module(module)
    return _READERS[name]


def lay_out(files: Files, folder: Path) -> None:
    """Write an input to a folder, which must not exist."""
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
