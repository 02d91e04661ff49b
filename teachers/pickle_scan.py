"""What a pickle of weights names, read with placeholders only: no torch, and nothing is run.

It runs confined (``teachers.confined``): in a few bytes, references to references can stand for
more than any memory holds, and a key can take longer to hash than anybody waits.
"""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from curation.errors import UserError

LARGEST = 1 << 28
"""Bytes that a pickle may have; torch.save compresses nothing, so the rest is in the file as is."""
OLD_PICKLES = 4
"""Before PyTorch 1.6: magic number, version, system, and then the object."""


def scan(path: str) -> dict[str, str]:
    """The classes and functions, as MODULE.NAME, that a file asks for, and what becomes of each.

    That is "mapping" where objects of it are given items, "list" where they are given members, and
    "object" otherwise. Raises ``UserError`` where it is no whole file of torch.save.
    """
    names: dict[str, str] = {}
    try:
        with _opened(Path(path)) as (file, count):
            for _ in range(count):
                _Reader(file, names).load()
    except (MemoryError, UserError):
        raise
    except RecursionError:
        raise UserError(f"{path}: nested too deeply for weights") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        raise UserError(
            f"{path}: not a file of weights: damaged, cut short, or not written by torch.save "
            f"({reason}); copy or download it again"
        ) from None
    return names


class _Placeholder:
    """Stands for every class, function, object and tensor; a class of its own for each name."""

    name = ""
    names: dict[str, str]

    def __new__(cls, *arguments: Any, **settings: Any) -> "_Placeholder":
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **settings: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...
    def add(self, value: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None:
        self.names[self.name] = "mapping"

    def append(self, value: Any) -> None:
        self.names[self.name] = "list"

    def extend(self, values: Any) -> None:
        self.names[self.name] = "list"


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, names: dict[str, str]) -> None:
        super().__init__(file, encoding="bytes")
        self._names = names

    def find_class(self, module: str, name: str) -> type[_Placeholder]:
        full = f"{module}.{name}"
        self._names.setdefault(full, "object")
        return type("Placeholder", (_Placeholder,), {"name": full, "names": self._names})

    def persistent_load(self, identifier: Any) -> _Placeholder:
        return _Placeholder()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file at its first pickle, and how many there are up to the object."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file, OLD_PICKLES
        return
    with zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if each.filename.endswith("/data.pkl")]
        unpacked = sum(each.file_size for each in archive.infolist())
        if len(members) != 1 or unpacked > path.stat().st_size + LARGEST:
            raise UserError(f"{path}: a zip archive, but not one that torch.save wrote")
        if any("/code/" in each.filename for each in archive.infolist()):
            raise UserError(
                f"{path}: TorchScript, a network with its code, which is not run; where torch is, "
                'torch.save(torch.jit.load(FILE, "cpu").state_dict(), "weights.pth") takes the '
                "weights out"
            )
        with archive.open(members[0]) as file:
            yield file, 1  # type: ignore[misc]
