"""Which bytes of a torch.save file are the elements of which tensor.

With this description, no other code has to read the pickle. Runs confined (``teachers.confined``)
for ``torch_pickles``.

Source: torch/serialization.py.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from curation.errors import UserError
from curation.files import open_regular
from teachers.torch_pickles import LONGEST_KEY, OddTensor, Reader, Storage, StridedTensor, mappings

LARGEST = 1 << 24
"""Maximum bytes of a pickle; weights take about a hundred per tensor."""
MOST_TENSORS = 20_000
MOST_DIMENSIONS = 64
"""Maximum number of dimensions of a torch tensor"""
ZIP_MAGIC = b"PK\3\4"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""Start of files from before PyTorch 1.6, followed by the system, the object and the storages."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Header of a zip member: signature, and the lengths of its name and of its extra field."""

DTYPES = {
    "Float": ("float32", 4),
    "Double": ("float64", 8),
    "Half": ("float16", 2),
    "BFloat16": ("bfloat16", 2),
    "Long": ("int64", 8),
    "Int": ("int32", 4),
    "Short": ("int16", 2),
    "Char": ("int8", 1),
    "Byte": ("uint8", 1),
    "Bool": ("bool", 1),
}
"""By the name of a storage class, without "Storage"."""
ITEM_BYTES = dict(DTYPES.values())
OTHERS = {
    "Untyped": 1,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
    "QInt8": 1,
    "QUInt8": 1,
    "QInt32": 4,
}
"""Element sizes of types that are not weights, or that are missing in the class name."""


def scan(path: str) -> dict[str, Any]:
    """A description of the file's content, as JSON.

    ``names`` are the classes and functions that it refers to, as MODULE.NAME. ``parts`` are pairs
    (dotted keys that lead to a mapping; tensors by key); a tensor is (storage number, dtype, offset
    in elements, size, strides). ``storages`` are pairs (first byte, bytes) in the file. Raises
    ``UserError`` if it is not a complete torch.save file.
    """
    where = Path(path)
    try:
        with open_regular(where) as file:
            beginning = file.read(4)
            file.seek(0)
            if beginning == ZIP_MAGIC:
                return _scan_zip(where, file)
            return _scan_old(where, file)
    except (MemoryError, UserError):
        raise
    except RecursionError:
        raise UserError(f"{path}: nested too deeply for weights") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise _damaged(where, f"{type(error).__name__}: {error}".splitlines()[0][:100]) from None


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: not a file of weights: damaged, cut short, or not written by torch.save "
        f"({reason}); copy or download it again"
    )


def _scan_zip(path: Path, file: BinaryIO) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        members = {each.filename: each for each in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(members) != len(archive.infolist()):
            raise UserError(f"{path}: a zip archive that torch.save did not write")
        if any("/code/" in name for name in members):
            raise UserError(
                f"{path}: TorchScript, a network with its code, which is not executed; where "
                'PyTorch is installed, torch.save(torch.jit.load(FILE, "cpu").state_dict(), '
                '"weights.pth") extracts the weights'
            )
        if any(each.compress_type != zipfile.ZIP_STORED for each in members.values()):
            raise UserError(
                f"{path}: a compressed archive, which torch.save does not write; unpack it "
                "(unzip FILE) and pack it without compression (zip -0 -r)"
            )
        root = pickles[0].removesuffix("data.pkl")
        for name in members.keys() & {f"{root}byteorder"}:
            _check_order(path, archive.read(name) == b"little")
        if members[pickles[0]].file_size > LARGEST:
            raise UserError(
                f"{path}: its pickle has more than {LARGEST >> 20} MiB, more than any weights "
                f"need; save the network's state_dict() alone"
            )
        inside = io.BufferedReader(io.BytesIO(archive.read(pickles[0])))
    reader = Reader(inside)
    content = reader.load()

    def place(storage: Storage, length: int) -> int:
        return _place_in_zip(path, file, members.get(f"{root}data/{storage.key}"), length)

    return _Description(path, place).of(content, reader.names)


def _place_in_zip(path: Path, file: BinaryIO, member: Any, length: int) -> int:
    """The position in the file where the bytes of a member begin."""
    if member is None or member.file_size < length:
        raise _damaged(path, "elements of a tensor are missing")
    file.seek(member.header_offset)
    signature, name, more = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if signature != ZIP_MAGIC or file.read(name) != _raw_name(member):
        raise _damaged(path, "its directory does not fit its members")
    return member.header_offset + LOCAL_HEADER.size + name + more


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    return member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")


def _scan_old(path: Path, file: BinaryIO) -> dict[str, Any]:
    if Reader(file).load() != MAGIC or Reader(file).load() != PROTOCOL:
        raise _damaged(path, "it does not start like a file of torch.save")
    system = Reader(file).load()
    _check_order(path, isinstance(system, dict) and system.get("little_endian") is True)
    reader = Reader(file)
    content = reader.load()
    places = dict(_old_storages(path, file, reader))

    def place(storage: Storage, length: int) -> int:
        if storage.key not in places:
            raise _damaged(path, "elements of a tensor are missing")
        return places[storage.key]

    return _Description(path, place).of(content, reader.names)


def _old_storages(path: Path, file: BinaryIO, reader: "Reader") -> Iterator[tuple[Any, int]]:
    """Keys of storages in file order, and the positions of their first bytes."""
    size = os.fstat(file.fileno()).st_size
    for key in Reader(file).load():
        known = reader.storages.get(key)
        count = int.from_bytes(file.read(8), "little")
        if known is None or count != known.count:
            raise _damaged(path, "its list of storages does not fit them")
        start = file.tell()
        end = start + count * _item_bytes(known.kind)
        if end > size:
            raise _damaged(path, "elements of a tensor are missing")
        yield key, start
        file.seek(end)


def _check_order(path: Path, little: bool) -> None:
    if not little:
        raise UserError(f"{path}: written by a big-endian machine; save it again on another one")


def _element(kind: str) -> str:
    return kind.rpartition(".")[2].removesuffix("Storage")


def _dtype_of(kind: str) -> str:
    """The dtype of a storage class; "" if its elements are not plain numbers."""
    return DTYPES.get(_element(kind), ("", 0))[0]


def _item_bytes(kind: str) -> int:
    """The element size of a storage class; ``KeyError`` if the name is unknown."""
    return ITEM_BYTES.get(_dtype_of(kind)) or OTHERS[_element(kind)]


class _Description:
    """Converts what was read to JSON; ``place`` maps storages to their position in the file."""

    def __init__(self, path: Path, place: Any) -> None:
        self.path, self._place = path, place
        self._numbers: dict[tuple[Any, int], int] = {}
        self._storages: list[tuple[int, int]] = []
        self._tensors = 0

    def of(self, content: Any, names: Mapping[str, Any]) -> dict[str, Any]:
        parts = [(keys, dict(self._described(inside))) for keys, inside in mappings(content)]
        if sum(length for _, length in self._storages) > self.path.stat().st_size:
            raise _damaged(self.path, "its tensors are larger than it is")
        found = [part for part in parts if part[1]]
        return {"names": list(names), "parts": found, "storages": self._storages}

    def _described(self, mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in mapping.items():
            if not isinstance(key, str) or not isinstance(value, StridedTensor | OddTensor):
                continue
            self._tensors += 1
            if self._tensors > MOST_TENSORS:
                raise UserError(
                    f"{self.path}: more than {MOST_TENSORS:,} tensors; not weights of a network"
                )
            if len(key) > LONGEST_KEY:
                raise UserError(f"{self.path}: not a state dict: a key of {len(key):,} characters")
            yield key, self._tensor(key, value)

    def _tensor(self, key: str, tensor: Any) -> Any:
        storage = tensor.storage if isinstance(tensor, StridedTensor) else None
        dtype = (tensor.dtype or _dtype_of(storage.kind)) if isinstance(storage, Storage) else ""
        if not isinstance(storage, Storage) or dtype not in ITEM_BYTES:
            raise UserError(f"{self.path}: not a state dict: {key!r:.100} is not a dense tensor")
        own = _item_bytes(storage.kind)
        offset = storage.start * own // ITEM_BYTES[dtype] + tensor.offset
        size, stride = tuple(tensor.size), tuple(tensor.stride)
        if not _is_within(offset, size, stride, storage.count * own // ITEM_BYTES[dtype]):
            raise _damaged(self.path, f"{key!r:.60} asks for elements that are not there")
        return self._number(storage, storage.count * own), dtype, offset, size, stride

    def _number(self, storage: Storage, length: int) -> int:
        name = (storage.key, length)
        if name not in self._numbers:
            self._numbers[name] = len(self._storages)
            self._storages.append((self._place(storage, length), length))
        return self._numbers[name]


def _is_within(offset: int, size: tuple, stride: tuple, count: int) -> bool:
    """Whether all elements are among ``count``; ``TypeError`` if they are not whole numbers."""
    numbers = (offset, count, *size, *stride)
    if len(size) != len(stride) or len(size) > MOST_DIMENSIONS:
        return False
    if any(type(number) is not int or not 0 <= number < 1 << 62 for number in numbers):
        return False
    if prod(each for each in size if each) >= 1 << 62:
        return False
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    return 0 in size or last < count
