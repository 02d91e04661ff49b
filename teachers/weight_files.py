"""Files of weights that others wrote, read without running anything that is in them.

A file that safetensors or torch.save wrote, whatever its name ends with, or a folder with such
files in the way of Hugging Face.
"""

import json
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from curation.errors import UserError
from curation.file_kinds import FileKind, what_is_this
from teachers.confined import confined
from teachers.sources import weights_in

SCAN_MEMORY, SCAN_SECONDS = 2 << 30, 5
DEEPEST, MOST_MAPPINGS = 8, 10_000
"""Of mappings in mappings, in which the tensors are looked for."""
LARGEST_INDEX = 1 << 26
"""Bytes of the JSON that says which shard has which tensor"""

WHOLE_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What Hugging Face calls the weights in a folder; ``.index.json`` lists several files."""

ACTING = (sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands"}) - {
    *("argparse", "collections", "datetime", "decimal", "enum", "pathlib", "types", "uuid")
}
"""Modules of Python's library whose functions would act; objects of the others are plain data."""

_BY_TORCH = "load it where it was written, and torch.save its tensors by name"
ADVICE = {
    "pickle": _BY_TORCH,
    "npz": _BY_TORCH,
    "numpy": _BY_TORCH,
    "hdf5": "weights of Keras: export the network to ONNX (tf2onnx does) and give that",
    "onnx": "name it NAME.onnx",
    "tar": "unpack it (tar -xf FILE) and give the weights that were in it",
}
"""What helps where weights are wanted, for kinds of files that are no download gone wrong."""


@dataclass(frozen=True)
class Part:
    """A mapping that holds tensors; ``path`` are the keys to it, with dots, "" where it is all."""

    path: str
    tensors: Mapping[str, Tensor]


def read_parts(path: Path) -> list[Part]:
    """Every mapping of names to tensors in a file or folder of weights, on the CPU.

    Raises ``UserError`` where it cannot be read, could only be read by running code in it, or holds
    no state dict.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of weights")
    kind = what_is_this(path)
    if kind is None and path.suffix != ".safetensors":
        raise UserError(
            f"{path}: not a file of weights: it begins neither as torch.save's nor as safetensors "
            "do; copy or download it again"
        )
    if kind is not None and kind.name not in ("torch", "safetensors", "zip"):
        raise _foreign(path, kind)
    content = _read_safetensors(path) if _is_safetensors(path, kind) else _read_pickle(path)
    if isinstance(content, torch.nn.Module):
        raise UserError(_whole_module(path, type(content).__name__))
    parts = list(_parts(path, content))
    if not parts:
        raise UserError(f"{path}: holds no state dict; save the network's state_dict() alone")
    return parts


def shortened(key: object) -> str:
    """A key of an unknown file as it can stand in a message: one line, not too long."""
    text = repr(key)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _foreign(path: Path, kind: FileKind) -> UserError:
    return UserError(
        f"{path}: {kind.what}, not a file of weights; {ADVICE.get(kind.name, kind.advice)}"
    )


def _is_safetensors(path: Path, kind: FileKind | None) -> bool:
    return path.suffix == ".safetensors" if kind is None else kind.name == "safetensors"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # of the library's own kind, or of the system's
        raise UserError(
            f"{path}: not a file of weights that can be read: {_first_line(error)}; copy or "
            "download it again"
        ) from None


def _read_pickle(path: Path) -> Any:
    stand_ins = [(_STAND_INS[kind], name) for name, kind in _unknown_names(path).items()]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        called = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        reason = f"it would call {called[1]}" if called else _first_line(error)
        raise _unsafe(path, reason) from None


def _unknown_names(path: Path) -> dict[str, str]:
    """What a pickle names and torch does not know, as ``pickle_scan.scan`` tells it.

    Raises ``UserError`` where one of them would have to run.
    """
    try:
        names = confined(
            "teachers.pickle_scan:scan", {"path": str(path)}, SCAN_MEMORY, SCAN_SECONDS
        )
    except (MemoryError, TimeoutError, ChildProcessError) as error:
        limit = "memory" if isinstance(error, MemoryError) else "time"
        raise _unsafe(path, f"reading its pickle takes more {limit} than any weights do") from None
    modules = [name for name in names if name.startswith("torch.nn.modules.")]
    if modules:
        own = [name for name in names if not name.startswith(("torch.", "collections."))]
        raise UserError(_whole_module(path, (own or modules)[0]))
    known = _known_to_torch()
    for name in names:
        top = name.partition(".")[0]
        if top in ACTING and name not in known:
            raise _unsafe(path, f"it would call {name}")
    left = {name: kind for name, kind in names.items() if name not in known}
    return {name: kind for name, kind in left.items() if not name.startswith("torch.")}


def _known_to_torch() -> set[str]:
    """Names that the reader of torch knows and takes itself."""
    from torch._weights_only_unpickler import _get_allowed_globals

    return set(_get_allowed_globals())


def _unsafe(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: not a file of weights that can be read safely ({reason}); "
        "a whole file of a state dict alone, as .safetensors or by torch.save, can"
    )


def _whole_module(path: Path, name: str) -> str:
    return (
        f"{path}: a whole network ({shortened(name)}) pickled by torch.save(network), which only "
        "its own code can open; there, torch.save(network.state_dict(), FILE) saves the weights"
    )


class _Thing:
    """A harmless object in place of one that lies beside the weights: settings, a trainer's state.

    Nothing of the class that the file names is imported or called, and what would have been its
    object is not used.
    """

    def __new__(cls, *arguments: Any, **settings: Any) -> "_Thing":
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **settings: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...


class _List(list):
    """The same for what is given members."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None: ...


class _Mapping:
    """The same for what is given items, which torch's reader gives to its own mappings only."""

    def __new__(cls, *arguments: Any, **settings: Any) -> OrderedDict:  # type: ignore[misc]
        return OrderedDict()


_STAND_INS: dict[str, type] = {"object": _Thing, "list": _List, "mapping": _Mapping}


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
        f"{folder}: one file of weights is wanted in the folder, {' or '.join(WHOLE_NAMES)} (or "
        f"its .index.json); found: {found}; give the path of the file itself"
    )


def _read_shards(folder: Path, index: Path) -> list[Part]:
    """The tensors of the files that an index lists; those lie beside it and nowhere else."""
    if index.stat().st_size > LARGEST_INDEX:
        raise UserError(f"{index}: larger than {LARGEST_INDEX >> 20} MiB; not an index of weights")
    try:
        listed = json.loads(index.read_bytes())["weight_map"]
        names = sorted(set(listed.values()))
        plain = all(isinstance(name, str) and name == Path(name).name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{index}: not an index of weights (weight_map); fetch it again") from None
    if not plain:
        raise UserError(f"{index}: names files outside its folder, which are not read")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: lacks {missing[0]}, which {index.name} lists; fetch it too")
    tensors = {
        key: each for name in names for key, each in read_parts(folder / name)[0].tensors.items()
    }
    absent = [key for key in listed if key not in tensors]
    if absent:
        raise UserError(f"{index}: lists {shortened(absent[0])}, which no file has; fetch it again")
    return [Part("", tensors)]


def _parts(path: Path, content: Any) -> Iterator[Part]:
    """Mappings in mappings, each once: references may lead to one from many places."""
    left, seen = [("", content, 0)], set[int]()
    while left and len(seen) < MOST_MAPPINGS:
        keys, mapping, depth = left.pop(0)
        if not isinstance(mapping, Mapping) or id(mapping) in seen or depth > DEEPEST:
            continue
        seen.add(id(mapping))
        named = [(key, value) for key, value in mapping.items() if isinstance(key, str)]
        tensors = {key: value.detach() for key, value in named if isinstance(value, Tensor)}
        for key, tensor in tensors.items():
            if not _is_plain(tensor):
                raise UserError(f"{path}: not a state dict: {shortened(key)} is no dense tensor")
        if tensors:
            yield Part(keys, tensors)
        left += [(f"{keys}.{key}" if keys else key, value, depth + 1) for key, value in named]


def _is_plain(value: Tensor) -> bool:
    return (
        value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex() or value.is_nested)
    )


def _first_line(error: Exception) -> str:
    """Without what torch says of its own past before the reason."""
    text = str(error).split("WeightsUnpickler error:")[-1].strip()
    return (text.splitlines() or [type(error).__name__])[0][:150]
