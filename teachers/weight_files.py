"""Reading third-party weights files without running their content.

Supports files written by safetensors or torch.save, with any suffix, and folders with such files in
Hugging Face's layout.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from curation.errors import UserError
from curation.file_kinds import FileKind, detect_kind
from curation.files import open_regular
from curation.json_text import read_json
from teachers.confined import confined
from teachers.pickle_scan import MOST_TENSORS
from teachers.safetensors_header import check_header
from teachers.sources import weights_in

SCAN_MEMORY, SCAN_SECONDS = 1 << 30, 3
LARGEST_INDEX = 1 << 22
"""Maximum bytes of the JSON index that maps tensors to shards"""

LARGEST_SPAN = 1 << 28
"""Maximum bytes read for a tensor that is a small slice of a larger one"""

WHOLE_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Hugging Face's names of weights in a folder; ``.index.json`` lists several files."""

ACTING = (sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands"}) - {
    *("argparse", "collections", "datetime", "decimal", "enum", "pathlib", "types", "uuid")
}
"""Standard library modules whose functions have effects; objects of others are plain data"""
HARMLESS = (
    {"_codecs.encode"}
    | {
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "bytearray", "complex", "dict", "list", "tuple", "object")
    }
    | {"copyreg._reconstructor", "copy_reg._reconstructor"}
)
"""Names in these modules that build plain data"""

_BY_TORCH = "load it where it was written, and torch.save its tensors by name"
ADVICE = {
    "pickle": _BY_TORCH,
    "npz": _BY_TORCH,
    "numpy": _BY_TORCH,
    "hdf5": "weights of Keras: export the network to ONNX (tf2onnx does) and give that",
    "onnx": "name it NAME.onnx",
    "tar": "unpack it (tar -xf FILE) and give the weights that were in it",
}
"""Hints for other kinds of files that users pass as weights, by kind"""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file; ``read`` loads its elements on demand.

    A checkpoint may contain an optimiser and centres of a million classes besides the network.
    """

    shape: torch.Size
    read: Callable[[], Tensor]


@dataclass(frozen=True)
class Part:
    """A mapping that holds tensors; ``path`` are the dotted keys to it, "" for the top level."""

    path: str
    tensors: Mapping[str, StoredTensor]


def read_parts(path: Path) -> list[Part]:
    """Every mapping of names to tensors in a weights file or folder, on the CPU.

    Raises ``UserError`` if it cannot be read, can only be read by running code in it, or has no
    state dict.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of weights")
    kind = detect_kind(path)
    if kind is None and path.suffix != ".safetensors":
        raise UserError(
            f"{path}: not a file of weights: it starts like neither a torch.save file nor a "
            f"safetensors file; copy or download it again"
        )
    if kind is not None and kind.name not in ("torch", "safetensors", "zip"):
        raise _foreign(path, kind)
    parts = _read_safetensors(path) if _is_safetensors(path, kind) else _read_pickle(path)
    if not parts:
        raise UserError(f"{path}: holds no state dict; save the network's state_dict() alone")
    return parts


def shortened(key: object) -> str:
    """A key of an untrusted file in a form for messages: one line, not too long."""
    text = repr(key)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _foreign(path: Path, kind: FileKind) -> UserError:
    advice = ADVICE.get(kind.name, kind.network_advice)
    return UserError(f"{path}: {kind.what}, not a file of weights; {advice}")


def _is_safetensors(path: Path, kind: FileKind | None) -> bool:
    return path.suffix == ".safetensors" if kind is None else kind.name == "safetensors"


def _read_safetensors(path: Path) -> list[Part]:
    check_header(path)
    try:
        tensors = load_file(path)
    except Exception as error:  # the library's own type, or the system's
        raise UserError(
            f"{path}: not a file of weights that can be read: {_first_line(error)}; copy or "
            "download it again"
        ) from None
    if len(tensors) > MOST_TENSORS:
        raise UserError(f"{path}: more than {MOST_TENSORS:,} tensors; not weights of a network")
    return [Part("", {key: _mapped(each) for key, each in tensors.items()})] if tensors else []


def _mapped(tensor: Tensor) -> StoredTensor:
    """A tensor of safetensors, which maps files and reads elements on access."""
    return StoredTensor(tensor.shape, lambda: tensor)


def described_tensors(path: Path) -> dict[str, Any]:
    """The description of a torch.save file: ``pickle_scan.scan``, run confined.

    Raises ``UserError`` if it cannot be read within limits, or contains code.
    """
    try:
        found = confined(
            "teachers.pickle_scan:scan", {"path": str(path)}, SCAN_MEMORY, SCAN_SECONDS
        )
    except (MemoryError, TimeoutError, ChildProcessError) as error:
        limit = "memory" if isinstance(error, MemoryError) else "time"
        raise _unsafe(path, f"reading its pickle takes more {limit} than any weights do") from None
    _check_names(path, found["names"])
    return found


def _read_pickle(path: Path) -> list[Part]:
    """The tensors that the pickle describes, read from their bytes; the pickle is not run."""
    found = described_tensors(path)
    starts = [start for start, _ in found["storages"]]

    def stored(number: int, dtype: str, offset: int, size: list, stride: list) -> StoredTensor:
        kind = getattr(torch, dtype)
        return StoredTensor(
            torch.Size(size), partial(_read, path, starts[number], kind, offset, size, stride)
        )

    return [
        Part(keys, {key: stored(*each) for key, each in tensors.items()})
        for keys, tensors in found["parts"]
    ]


def _check_names(path: Path, names: list[str]) -> None:
    """Raise ``UserError`` if the pickle holds a whole network, or code."""
    modules = [name for name in names if name.startswith("torch.nn.modules.")]
    if modules:
        own = [name for name in names if not name.startswith(("torch.", "collections."))]
        raise UserError(
            f"{path}: a whole network ({shortened((own or modules)[0])}) pickled by "
            "torch.save(network), which only its own code can open; there, "
            "torch.save(network.state_dict(), FILE) saves the weights"
        )
    for name in names:
        if name.partition(".")[0] in ACTING and name not in HARMLESS:
            raise _unsafe(path, f"it would call {name:.100}")


def _read(
    path: Path, start: int, dtype: torch.dtype, offset: int, size: list[int], stride: list[int]
) -> Tensor:
    """The elements of a tensor, starting at the ``offset``-th element after byte ``start``."""
    steps = zip(size, stride, strict=True)
    last = sum((length - 1) * step for length, step in steps) if all(size) else -1
    span = (last + 1) * dtype.itemsize
    if span > max(LARGEST_SPAN, 2 * prod(size) * dtype.itemsize):
        raise UserError(
            f"{path}: the {prod(size):,} elements of a tensor lie among {span:,} bytes; save a "
            "copy of it (tensor.clone())"
        )
    content = bytearray(span)
    with open_regular(path) as file:
        file.seek(start + offset * dtype.itemsize)
        if file.readinto(content) < span:
            raise UserError(f"{path}: it was truncated while it was read; copy it again")
    flat = torch.frombuffer(content, dtype=dtype) if span else torch.empty(0, dtype=dtype)
    return flat.as_strided(size, stride)


def _unsafe(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: not a file of weights that can be read safely ({reason}); "
        "give a complete file that holds only a state dict, as .safetensors or from torch.save"
    )


def _read_folder(folder: Path) -> list[Part]:
    for name in WHOLE_NAMES:
        if (folder / name).is_file():
            return read_parts(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, folder / f"{name}.index.json")
    files = weights_in(folder)
    if len(files) == 1:
        return read_parts(files[0])
    found = ", ".join(each.name for each in files[:5]) or "none"
    raise UserError(
        f"{folder}: expected one file of weights in the folder, {' or '.join(WHOLE_NAMES)} (or "
        f"its .index.json); found: {found}; give the path of the file itself"
    )


def _read_shards(folder: Path, index: Path) -> list[Part]:
    """The tensors of the files in an index; files must be in the folder of the index."""
    try:
        listed = read_json(index, LARGEST_INDEX)["weight_map"]
        names = sorted(set(listed.values()))
        plain = all(isinstance(name, str) and name == Path(name).name for name in names)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: not an index of weights (weight_map); fetch it again") from None
    if not plain:
        raise UserError(f"{index}: names files outside its folder, which are not read")
    there = {each.name for each in folder.iterdir()}
    if missing := [name for name in names if name not in there]:
        raise UserError(f"{folder}: lacks {missing[0]:.80}, which {index.name} lists; fetch it too")
    tensors = {
        key: each for name in names for key, each in read_parts(folder / name)[0].tensors.items()
    }
    absent = [key for key in listed if key not in tensors]
    if absent:
        raise UserError(f"{index}: lists {shortened(absent[0])}, which no file has; fetch it again")
    return [Part("", tensors)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
